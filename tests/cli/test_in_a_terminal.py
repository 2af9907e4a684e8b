"""The command in a real terminal and a real shell: colours, whole numbers at 60 columns, completion, Ctrl-C."""

import fcntl
import os
import pty
import re
import shlex
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest

from scaling.cli.interrupted import after_interrupt
from scaling.cli.terminal import folded

ROOT = Path(__file__).parents[2]
RUNS = ROOT / "docs" / "studies" / "three-orders" / "runs.csv"
COLOURS = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def in_terminal(*arguments, width=60, **variables):
    """Run the command in a terminal of its own; return what it shows."""
    child, terminal = pty.fork()
    if child == 0:
        os.environ.pop("NO_COLOR", None)
        os.environ.update(TERM="xterm", COLUMNS=str(width), PYTHONPATH=str(ROOT), **variables)
        os.execv(sys.executable, [sys.executable, "-m", "scaling", *map(str, arguments)])
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 40, width, 0, 0))
    shown = b""
    while True:
        try:
            piece = os.read(terminal, 65536)
        except OSError:  # the child has closed it
            piece = b""
        if not piece:
            break
        shown += piece
    os.waitpid(child, 0)
    os.close(terminal)
    return shown.decode().replace("\r\n", "\n")


def cut_numbers(text, width):
    """Numbers that a terminal would break between two of its lines."""
    found = []
    for line in text.split("\n"):
        for end in range(width, len(line), width):
            left, right = (
                re.search(r"[\w.,+-]*$", line[:end])[0],
                re.match(r"[\w.,+-]*", line[end:])[0],
            )
            if left and right and re.fullmatch(r"[+-]?\d[\d.,]*(e[+-]?\d+,?)?", left + right):
                found.append(left + right)
    return found


@pytest.mark.parametrize(
    "arguments",
    [
        ("fit", RUNS),
        pytest.param(("allocate", RUNS, "--flops", "1e15"), marks=pytest.mark.slow),
        pytest.param(("compare", RUNS, "--baseline", "grade=W2"), marks=pytest.mark.slow),
    ],
    ids=lambda arguments: arguments[0],
)
def test_no_number_is_cut_at_60_columns(arguments):
    shown = COLOURS.sub("", in_terminal(*arguments))
    assert "soft_logloss" in shown
    assert cut_numbers(shown, 60) == []


@pytest.mark.slow
def test_no_number_of_a_report_is_cut_at_60_columns(tmp_path):
    shown = COLOURS.sub("", in_terminal("report", RUNS, "-o", tmp_path / "report"))
    assert "1,866,787" in shown
    assert cut_numbers(shown, 60) == []


def test_the_check_for_cut_numbers_finds_one():
    assert cut_numbers("x" * 3 + " 0.388 x", 6) == ["0.388"]


def test_an_error_is_red_in_a_terminal():
    assert in_terminal("fit", "none.csv").startswith("\x1b[31merror:\x1b[0m none.csv")


@pytest.mark.slow
def test_no_color_is_heeded():
    assert in_terminal("fit", "none.csv", NO_COLOR="1").startswith("error: none.csv")


@pytest.mark.slow
def test_states_have_colours_in_a_terminal(study_file):
    shown = in_terminal("plan", study_file, width=200)
    assert "missing" in shown
    assert "\x1b[32mok" in in_terminal("doctor", width=200)


@pytest.fixture
def shell(tmp_path):
    """Ask a bash for what it completes; the command is on its path."""
    command = tmp_path / "bin" / "scaling"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m scaling "$@"\n')
    command.chmod(0o755)
    path = f"{command.parent}{os.pathsep}{os.environ['PATH']}"

    def completed(*words):
        script = (
            'eval "$(scaling --show-completion)"; complete -p scaling >&2; '
            f"COMP_WORDS=(scaling {shlex.join(words)}); COMP_CWORD={len(words)}; "
            '_scaling_completion scaling; printf "%s\\n" "${COMPREPLY[@]}"'
        )
        done = subprocess.run(
            ["bash", "--norc", "-c", script],
            env={**os.environ, "PATH": path, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=True,
        )
        assert "-F _scaling_completion scaling" in done.stderr
        return done.stdout.split()

    return completed


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        pytest.param(["pl"], ["plan", "plot"], marks=pytest.mark.slow),
        pytest.param(["data", "va"], ["validate"], marks=pytest.mark.slow),
        pytest.param(["fit", "--resid"], ["--residual"], marks=pytest.mark.slow),
        (["fit", "x.csv", "--law", "mult"], ["multiplicative"]),
    ],
    ids=" ".join,
)
def test_bash_completes(shell, words, expected):
    assert shell(*words) == expected


def test_long_lines_break_at_spaces_and_short_ones_stay():
    text = "E  0.388 [0.362, 0.404]\n" + "a note of 12,345 runs " * 3
    assert folded(text, 24).split("\n")[0] == "E  0.388 [0.362, 0.404]"
    assert max(map(len, folded(text, 24).split("\n"))) <= 24
    assert folded(text, 24).split() == text.split()


def test_a_path_that_is_longer_than_the_terminal_stays_whole():
    path = "/data/" + "x" * 80 + "-1.csv"
    assert path in folded(f"written to {path}", 40).split()


@pytest.mark.parametrize(
    ("command", "says"),
    [
        ("run s.toml", "interrupted; the same command goes on from here"),
        ("-v submit s.toml --cluster slurm", "interrupted; the same command goes on from here"),
        ("data import table x y --shards 4", "interrupted; the same command goes on from here"),
        ("data import table x y --shards=4", "interrupted; the same command goes on from here"),
        ("mirror s.toml --to mlflow", "interrupted; the same command goes on from here"),
        (
            "status s.toml --watch",
            "interrupted; the cells go on, and the same command shows them again",
        ),
        ("retry s.toml", "interrupted; `scaling submit` goes on with these cells"),
        ("benchmark s.toml", "interrupted; nothing was kept; the same command begins anew"),
        ("fit runs.csv", "interrupted"),
        ("", "interrupted"),
    ],
)
def test_the_last_line_says_whether_the_same_command_goes_on(command, says):
    assert after_interrupt(command.split()) == says


def test_the_summaries_of_the_verbs_are_whole():
    done = subprocess.run(
        [sys.executable, "-m", "scaling", "--help"],
        env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "60"},
        capture_output=True,
        text=True,
        check=True,
    )
    verbs = done.stdout[done.stdout.index("Commands:") :]
    assert "..." not in verbs
    assert "finished, running and queued cells are never submitted twice." in " ".join(
        verbs.split()
    )
    assert max(map(len, done.stdout.splitlines())) <= 60
