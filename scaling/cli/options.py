"""Options that several verbs on tables share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["AsJson", "Data", "Output", "Runs", "Source", "Where", "X", "Y"]

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
Where = Annotated[
    list[str] | None,
    typer.Option("--where", metavar="COLUMN=VALUE", help="Only rows with this value; repeatable."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document, numbers unrounded.")]
Output = Annotated[
    Path | None, typer.Option("-o", "--output", help="Write here instead of stdout.")
]
X = Annotated[str, typer.Option("--x", help="Column of the model's size.")]
Data = Annotated[str, typer.Option("--data", help="Column of the data size, in samples.")]
Y = Annotated[
    str | None,
    typer.Option(
        "--y",
        help="Column of the metric [default: the table's logloss, soft_logloss if it has it].",
    ),
]
