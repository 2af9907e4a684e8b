"""A CSV without an expected column: file, line, nearest column, and the option that names another one."""

from pathlib import Path

import pandas as pd
import pytest

from analysis.table import header_of, read_table

FULL = "size,samples,ne,lr\n" + "".join(
    f"{n},{d},{0.5 + n**-0.3 + d**-0.3},0.1\n" for n in (1e3, 1e4, 1e5) for d in (1e4, 1e5, 1e6)
)
COLUMNS = "--x size --data samples --y ne"
VERBS = (
    "fit",
    "holdout",
    "gain",
    "allocate --flops 1e15",
    "next",
    "isoflop",
    "plot",
    "report",
    "forecast --at 1e6,1e7",
)


@pytest.fixture
def csv(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = Path("runs.csv")
    path.write_text(FULL)
    return path


def fails(run, command, csv):
    verb, *options = command.split()
    code, out, err = run(verb, csv, *options)
    assert (code, out, err.count("\n")) == (2, "", 1)
    return err.removeprefix("error: ").rstrip("\n")


@pytest.mark.parametrize("verb", VERBS)
def test_without_a_metric_the_options_are_proposed(run, csv, verb):
    """The message is the same wherever a metric is needed first; else that of the size."""
    said = fails(run, verb, csv)
    assert said.startswith("runs.csv: line 1: no column ")
    assert "--x size" in said


def test_the_proposed_options_are_those_that_work(run, csv):
    said = fails(run, "fit", csv)
    assert said == (
        f"runs.csv: line 1: no column logloss or auc; name the metric with --y, e.g. {COLUMNS}; "
        "the columns are lr, ne, samples, size"
    )
    _, out, err = run("fit", csv, *COLUMNS.split(), "--json")
    assert '"y": "ne"' in out, err


@pytest.mark.parametrize("verb", VERBS)
def test_a_missing_model_size_names_its_option(run, csv, verb):
    said = fails(run, f"{verb} --y ne --data samples", csv)
    assert said.startswith("runs.csv: line 1: no column n_params, expected one of: ")
    assert "name it with --x" in said


@pytest.mark.parametrize("verb", VERBS)
def test_two_missing_sizes_are_named_at_once(run, csv, verb):
    assert fails(run, f"{verb} --y ne", csv) == (
        "runs.csv: line 1: no columns n_params and n_samples; name them with --x size --data samples; "
        "the columns are lr, ne, samples, size"
    )


@pytest.mark.parametrize("verb", VERBS)
def test_a_misspelt_size_names_the_nearest_column(run, csv, verb):
    said = fails(run, f"{verb} --y ne --x siz --data samples", csv)
    assert said.startswith("runs.csv: line 1: no column siz, did you mean size?; ")
    assert "name it with --x" in said


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ("--y nee", "runs.csv: line 1: --y nee: no column nee, did you mean ne?"),
        ("--where siz=3", "runs.csv: line 1: --where siz=3: no column siz, did you mean size?"),
        (
            "--y ne --x size --data sampels",
            "runs.csv: line 1: no column sampels, did you mean samples?; name it with --data",
        ),
        (
            f"--law length {COLUMNS}",
            "runs.csv: line 1: no column max_len, expected one of: lr, ne, samples, size; name it with --length",
        ),
        (
            f"--best-of lrr {COLUMNS}",
            "runs.csv: line 1: --best-of lrr: no column lrr, did you mean lr?",
        ),
        (
            f"--weights stderr {COLUMNS}",
            "runs.csv: line 1: no column ne_stderr, by which weights = stderr weighs the rows; leave it out, or add the column",
        ),
    ],
)
def test_each_option_that_names_a_column_tells_where_it_is_missing(run, csv, options, says):
    assert fails(run, f"fit {options}", csv) == says


def test_the_line_is_that_of_the_header(csv):
    csv.write_text("\n\n" + FULL)
    assert header_of(read_table(csv)) == "runs.csv: line 3"
    assert header_of(pd.DataFrame({"a": [1]})) == "table"


def test_names_that_say_nothing_are_not_guessed(run, csv):
    csv.write_text("a,b,c\n1,2,3\n2,3,4\n")
    assert fails(run, "fit", csv) == (
        "runs.csv: line 1: no column logloss or auc; name the metric with --y, one of a, b, c"
    )
