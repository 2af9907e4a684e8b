"""Tables, bars and the live view on a terminal of any width; plain text if stdout is a pipe or a file."""

import io
import re

import pytest
from rich.console import Console
from small_studies import plan_of

from scaling.cli import progress
from scaling.cli.app import main
from scaling.cli.output import print_parts
from scaling.cli.sweep.status_views import watch_loop
from scaling.cli.tables import Table
from scaling.cli.terminal import live_view, renderable
from scaling.records import claim
from sweeps.status import RunningCell, SweepProgress

TABLE = Table(
    ["cell", "grade", "n_samples", "flops", "auc", "seconds", "why"],
    [
        ["3f2a11bc", "SUAN-0", 1_234_567, 1.25e12, 0.6543, 98_765.4, "will run"],
        ["77a2c0de", "SUAN-12", 65_536, None, float("nan"), 3.0, "changed: " + "word " * 12],
    ],
)
NUMBERS = ["1,234,567", "1.25e+12", "0.6543", "98,765.4", "65,536", "3.0000"]


def become_terminal(monkeypatch):
    """Make stdout a terminal of 40 columns; called in the test, because pytest replaces stdout before it."""
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setenv("TERM", "xterm")


def drawn(renderable, width):
    console = Console(file=io.StringIO(), width=width)
    console.print(renderable, crop=False)
    return console.file.getvalue()


@pytest.mark.parametrize("width", [40, 50, 64, 80, 100, 200])
def test_no_width_cuts_a_number_or_exceeds_the_terminal(width):
    text = drawn(renderable(TABLE, width), width)
    words = text.split()
    assert [number for number in NUMBERS if number not in words] == []
    assert max(len(line.rstrip()) for line in text.splitlines()) <= width


def test_blocks_of_columns_begin_with_the_first_column():
    heads = [line for line in drawn(renderable(TABLE, 40), 40).splitlines() if "cell" in line]
    assert len(heads) > 1
    assert all(line.startswith("cell ") for line in heads)


def test_a_long_text_wraps_in_its_column():
    text = drawn(renderable(TABLE, 60), 60)
    assert text.split().count("word") == 12


def test_markup_in_a_value_is_printed_as_it_is():
    table = Table(["a", "b"], [["x", "[bold]y[/bold] :smile:"]])
    assert "[bold]y[/bold] :smile:" in drawn(renderable(table, 80), 80)


def test_plain_text_has_two_spaces_between_columns_and_numbers_to_the_right(capsys):
    print_parts([Table(["name", "n"], [["a", 5], ["long", 1234]]), "", "2 rows"])
    assert capsys.readouterr().out == "name      n\na         5\nlong  1,234\n\n2 rows\n"


def test_a_terminal_gets_the_same_values(capsys, monkeypatch):
    become_terminal(monkeypatch)
    print_parts([TABLE, "", "2 cells"])
    out = capsys.readouterr().out
    assert [number for number in NUMBERS if number not in out.split()] == []
    assert max(map(len, re.sub(r"\x1b\[[0-9;]*m", "", out).splitlines())) <= 40
    assert out.endswith("\n\n2 cells\n")


def test_a_file_is_plain_also_on_a_terminal(capsys, monkeypatch, tmp_path):
    become_terminal(monkeypatch)
    with pytest.raises(SystemExit):
        main(["grades", "-o", str(tmp_path / "grades.txt")])
    with pytest.raises(SystemExit):
        main(["grades"])
    header = (tmp_path / "grades.txt").read_text().splitlines()[0]
    assert header.split()[-1] == "activation_bytes"
    assert header not in capsys.readouterr().out


@pytest.mark.parametrize("width", [50, 100])
def test_bars_show_whole_figures(width):
    cell = RunningCell("3f2a11bc", "SUAN-2 D=65536 s0", 400, 1000, 0.4817, 3210.0)
    with progress._bars(transient=True) as bars:
        progress._SweepBars(bars).draw(SweepProgress(24, 12, 1, 0, (cell,)), 185.0)
        words = drawn(bars.get_renderable(), width).split()
    assert {"0.4817", "3.2k", "50%", "40%", "12/24", "3:10"} <= set(words)


def test_bars_of_ended_cells_go_away():
    cell = RunningCell("3f2a11bc", "SUAN-2 D=65536 s0", 400, 1000, 0.4817, 3210.0)
    with progress._bars(transient=True) as bars:
        drawing = progress._SweepBars(bars)
        drawing.draw(SweepProgress(24, 12, 0, 0, (cell,)), 60.0)
        drawing.draw(SweepProgress(24, 13, 0, 0, ()), 30.0)
        assert [task.description for task in bars.tasks] == ["study"]


def test_a_log_line_goes_above_the_bars(capsys, study_file, monkeypatch):
    """Both go to stderr; the bar is redrawn below the line."""
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    with pytest.raises(SystemExit):
        main(["submit", str(study_file), "--cluster", "debug", "--limit", "1"])
    err = capsys.readouterr().err
    assert "1/4 cells done" in err
    assert "3 cells are still missing" in err


def test_watch_redraws_a_terminal_until_no_cell_runs(capsys, study_file, monkeypatch):
    become_terminal(monkeypatch)
    plan, runs = plan_of(study_file, root="runs/tiny")
    lease = claim(runs.folder(plan.cells[0].config.signature), done=lambda: False)
    monkeypatch.setattr("time.sleep", lambda _: lease.end("lost"))
    monkeypatch.setattr(watch_loop, "_SECONDS_BETWEEN_LOOKS", 0.1)
    with pytest.raises(SystemExit) as exited:
        main(["status", str(study_file), "--watch"])
    out = capsys.readouterr().out
    frames = out.split("cells done, ")
    assert exited.value.code == 0
    assert "\x1b[1A" in out  # the cursor goes up to draw over the first frame
    assert frames[1].startswith("1 running")
    assert frames[-1].startswith("1 lost")


def test_the_live_view_of_a_long_table_fits_the_screen_and_is_whole_at_the_end(capsys, monkeypatch):
    become_terminal(monkeypatch)
    monkeypatch.setenv("LINES", "20")
    table = Table(["n"], [[i] for i in range(300)])
    with live_view() as view:
        view.show(["300 cells", table], [table, "", "300 cells"])
        frame = capsys.readouterr().out
    whole = capsys.readouterr().out
    assert "300 cells" in frame
    assert frame.count("\n") <= 20
    assert whole.endswith("299\n\n300 cells\n")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, ""),
        (47, ", about 0:50 left"),
        (185, ", about 3:10 left"),
        (3700, ", about 1:05:00 left"),
    ],
)
def test_the_time_left_shows_no_figures_that_mean_nothing(seconds, text):
    assert progress._left_text(seconds) == text
