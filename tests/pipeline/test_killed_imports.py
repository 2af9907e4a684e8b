"""An import that is stopped leaves nothing that looks finished; progress of an import."""

import random
import signal
import subprocess
import sys
import time

import pytest

from scaling.errors import UserError
from scaling.importers import import_logs
from scaling.importers.pipeline import Limits
from scaling.importers.pipeline.engine import Progress

TOML = """
[impressions]
files = ["shown.csv"]
user = "user"
time = "time"
item = "item"
label = "click"
[features]
behaviour = ["item"]
candidate = ["item"]
"""


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    """300,000 impressions, which take a few seconds to import."""
    folder = tmp_path_factory.mktemp("raw")
    rng = random.Random(0)
    rows = [
        f"{rng.randrange(5000)},{1_700_000_000 + rng.randrange(10**6)},{rng.randrange(9000)},{rng.randrange(2)}\n"
        for _ in range(300_000)
    ]
    (folder / "shown.csv").write_text("user,time,item,click\n" + "".join(rows))
    (folder / "log.toml").write_text(TOML)
    return folder


def accept_interrupts():
    """Restore the default: processes that a shell starts in the background ignore interrupts, and so do their children."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def start(raw, out):
    command = [sys.executable, "-m", "scaling", "data", "import", "table", str(raw), str(out)]
    process = subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, preexec_fn=accept_interrupts
    )
    while not list(out.parent.glob(".out.*.tmp/work/import.duckdb")):
        assert process.poll() is None
        time.sleep(0.02)
    return process


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_stop_leaves_nothing(tmp_path, raw, number):
    process = start(raw, tmp_path / "out")
    process.send_signal(number)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 130
    assert error.splitlines()[-1].startswith("interrupted; nothing was kept; the same command")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_after_a_kill_the_next_import_removes_the_leftovers(tmp_path, raw):
    process = start(raw, tmp_path / "out")
    process.kill()
    process.communicate()
    assert not (tmp_path / "out").exists()
    assert len(list(tmp_path.iterdir())) == 1
    import_logs("table", raw, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.slow
def test_progress_grows_to_the_end_and_names_the_steps(tmp_path, raw):
    reports = []
    import_logs("table", raw, tmp_path / "out", report=lambda *report: reports.append(report))
    shares = [share for share, _, _ in reports]
    assert shares == sorted(shares)
    assert shares[0] == 0
    assert 0.5 < shares[-1] <= 1
    assert [*dict.fromkeys(step for _, step, _ in reports)] == [
        "reading",
        "making rows",
        "counting values",
        "encoding",
        "writing events",
        "writing impressions",
    ]


def test_the_time_left_follows_from_the_share_that_is_done(monkeypatch):
    reports, now = [], [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    progress = Progress({"a": 1.0, "b": 3.0}, lambda *report: reports.append(report))
    with progress.step("a"):
        now[0] = 110.0
    with progress.step("b"):
        progress.within(0.5)
        progress.within(0.1)
    assert reports[1:] == [(0.25, "b", 30.0), (0.625, "b", 6.0), (0.625, "b", 6.0)]


def test_limits_that_cannot_work_are_refused(tmp_path, raw):
    for limits, word in (({"memory_gib": 0.1}, "memory"), ({"threads": 0}, "threads")):
        with pytest.raises(UserError, match=word):
            import_logs("table", raw, tmp_path / "out", limits=Limits(**limits))
