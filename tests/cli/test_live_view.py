"""`scaling status --watch` as a user sees it: in a real terminal, that of tmux."""

import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from small_studies import plan_of

from scaling.records import RunRecord, claim

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("tmux") is None, reason="needs tmux"),
]

ROOT = Path(__file__).parents[2]
GRID = ('grid.grade=["SUAN-0","SUAN-1","SUAN-2"]', "grid.n_samples=[80,160,320,640]")


class Terminal:
    """A terminal of 110 columns and 40 lines in which a command runs."""

    def __init__(self, folder, command):
        self._tmux = ["tmux", "-S", str(folder / "socket"), "-f", "/dev/null"]
        environment = {k: v for k, v in os.environ.items() if k != "NO_COLOR"}
        environment |= {"PYTHONPATH": str(ROOT), "TERM": "xterm-256color"}
        self._call(
            "new-session", "-d", "-s", "view", "-x", "110", "-y", "40", "-c", str(folder),
            f"{shlex.join(command)}; echo exit code $?; sleep 600", env=environment,
        )  # fmt: skip

    def _call(self, *words, **options):
        done = subprocess.run(
            [*self._tmux, *words], capture_output=True, text=True, check=True, **options
        )
        return done.stdout

    def screen(self):
        return self._call("capture-pane", "-p", "-t", "view")

    def wait_for(self, pattern, seconds=120):
        """Return the screen as soon as it shows `pattern`."""
        end = time.monotonic() + seconds
        while not re.search(pattern, screen := self.screen()):
            assert time.monotonic() < end, f"no {pattern} in:\n{screen}"
            time.sleep(0.2)
        return screen

    def press(self, key):
        self._call("send-keys", "-t", "view", key)

    def close(self):
        self._call("kill-server")


def finish(plan, runs, cells):
    """Write the records of cells, on a law with noise."""
    rng = np.random.default_rng(0)
    for cell in cells:
        size, n_samples = cell.size, cell.config.n_samples
        loss = 0.4 + size.n_params**-0.4 + n_samples**-0.5 + rng.normal(0, 1e-4)
        runs.write(
            RunRecord(
                cell.config, size.n_params, size.n_embedding_params, size.flops_per_sample,
                cell.flops, {"logloss": loss, "auc": 1.1 - loss}, loss, 1.0, n_samples / 1.0, 0.1,
                {"truth": None},
            )
        )  # fmt: skip


@pytest.fixture
def sweep(study_file):
    """Nine finished cells of twelve, one that runs, and one that failed."""
    plan, runs = plan_of(study_file, *GRID, root="runs/tiny")
    cells = sorted(plan.cells, key=lambda cell: cell.config.n_samples)
    finish(plan, runs, cells[:9])
    runs.fail(cells[9].config.signature, "the loss is nan at step 3", "diverged")
    lease = claim(runs.folder(cells[10].config.signature), done=lambda: False)
    lease.update(step=5, n_steps=20, loss=0.4567, samples_per_second=1234.0)
    lease.verify()
    yield plan, runs, cells, lease
    lease.end("lost")


@pytest.fixture
def view(tmp_path, sweep):
    settings = [word for setting in GRID for word in ("--set", setting)]
    command = [sys.executable, "-m", "scaling", "status", "study.toml", "--watch", *settings]
    terminal = Terminal(tmp_path, command)
    yield terminal
    terminal.close()


def test_the_view_shows_cells_speeds_failures_and_the_law_narrowing(view, sweep):
    plan, runs, cells, lease = sweep
    first = view.wait_for(r"alpha +\S")
    assert "9/12 cells done, 1 running, 1 failed, 1 missing" in " ".join(first.split())
    assert "the law so far: logloss = E + A N^-alpha + B D^-beta" in " ".join(first.split())
    assert re.search(r"^ +9 runs *$", first, re.MULTILINE)
    # the next heartbeat writes the step
    view.wait_for(cells[10].config.signature[:8] + r".* 5/20 ")
    assert "1 cell failed or lost" in first
    assert "the loss is nan at step 3" in " ".join(first.split())
    finish(plan, runs, cells[11:])
    second = view.wait_for(r" 9 runs +10 runs")
    assert "10/12 cells done" in second
    lease.end("exception", "the disk is full")
    last = view.wait_for("exit code 0")
    assert "10/12 cells done, 2 failed" in " ".join(last.split())


def test_q_ends_the_view_and_says_that_the_cells_go_on(view):
    view.wait_for("q ends the view")
    view.press("q")
    last = view.wait_for("exit code 0")
    assert "no longer watched; the cells go on" in last


def test_ctrl_c_ends_the_view_with_a_line_and_no_traceback(view):
    view.wait_for("q ends the view")
    view.press("C-c")
    last = view.wait_for("exit code 130")
    assert "interrupted; the cells go on, and the same command shows them again" in last
    assert "Traceback" not in last


def test_the_terminal_is_as_before_afterwards(view):
    view.wait_for("q ends the view")
    view.press("q")
    view.wait_for("exit code 0")
    pane = view._call("list-panes", "-F", "#{pane_tty}").strip()
    modes = subprocess.run(["stty", "-F", pane, "-a"], capture_output=True, text=True, check=True)
    assert {"icanon", "echo"} <= set(modes.stdout.split())
