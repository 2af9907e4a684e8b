"""Options that several verbs share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = [
    "AsJson",
    "Budget",
    "Confidence",
    "Data",
    "ForceResume",
    "Limit",
    "Metrics",
    "Only",
    "Output",
    "Overrides",
    "Runs",
    "Source",
    "Study",
    "Where",
    "WholeFolder",
    "X",
    "Y",
    "Yes",
]


Metrics = Annotated[
    list[str] | None,
    typer.Option("--y", help="Column of a metric; repeatable [default: a logloss and an AUC]."),
]

Study = Annotated[Path, typer.Argument(metavar="STUDY", help="A study file (TOML).")]
Source = Annotated[
    Path,
    typer.Argument(
        metavar="STUDY|CSV", help="A study file, a study's run folder, or a CSV (- for stdin)."
    ),
]
Runs = Annotated[
    Path | None,
    typer.Option("--runs", help="Folder of all runs [default: $SCALING_RUNS or ./runs]."),
]
Overrides = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="SECTION.KEY=VALUE", help="Override a key of the study; repeatable."
    ),
]
Only = Annotated[
    list[str] | None,
    typer.Option(
        metavar="KEY=VALUE",
        help="Only cells with this grade, n_samples or seed; repeatable, values of one key are alternatives.",
    ),
]
Limit = Annotated[
    int | None, typer.Option(min=1, help="At most this many cells, the smallest first.")
]
Budget = Annotated[
    float | None,
    typer.Option(
        "--budget-gpu-hours",
        min=0.0,
        max=1e12,
        help="GPU-hours that the whole study may cost, finished runs included.",
    ),
]
Confidence = Annotated[
    float, typer.Option(min=0.5, max=0.9999, help="Confidence level of each interval.")
]
ForceResume = Annotated[
    bool,
    typer.Option("--force-resume", help="Resume from checkpoints of another version of the code."),
]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask for confirmation.")]
Where = Annotated[
    list[str] | None,
    typer.Option("--where", metavar="COLUMN=VALUE", help="Only rows with this value; repeatable."),
]
WholeFolder = Annotated[
    bool,
    typer.Option(
        "--all", help="Take all finished runs in the study's folder, not only those of its grid."
    ),
]
AsJson = Annotated[
    bool, typer.Option("--json", help="Print one JSON document with unrounded numbers.")
]
Output = Annotated[
    Path | None, typer.Option("-o", "--output", help="Write here instead of stdout.")
]
X = Annotated[str, typer.Option("--x", help="Column of the model's size.")]
Data = Annotated[str, typer.Option("--data", help="Column of the data size, in samples.")]
Y = Annotated[
    str | None,
    typer.Option(
        "--y",
        help="Column of the metric [default: soft_logloss if the table has it, else logloss].",
    ),
]
