"""The verb `scaling export`: finished runs as one file for notebooks and other programs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from scaling.cli.fit_inputs import load_table
from scaling.cli.options import Overrides, Runs, Source, Where, WholeFolder
from scaling.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

    from scaling.cli.fit_inputs import Loaded

__all__ = ["add_verbs"]


_ENDINGS = (".parquet", ".csv")


def add_verbs(app: typer.Typer) -> None:
    """Register the verb on the command `scaling`."""
    app.command("export")(export)


def export(
    source: Source,
    output: Annotated[
        Path, typer.Option("-o", "--output", help="The file: .parquet or .csv by its ending.")
    ],
    curves: Annotated[
        bool,
        typer.Option(
            "--curves", help="Instead: one row per run and logged step, with the training loss."
        ),
    ] = False,
    runs: Runs = None,
    where: Where = None,
    overrides: Overrides = None,
    whole_folder: WholeFolder = False,
) -> None:
    """Write every column of the finished runs, or their training curves, as Parquet or CSV.

    Example: scaling export studies/quickstart.toml -o runs.parquet
    """
    from analysis.table import write_table

    if output.suffix not in _ENDINGS:
        raise UserError(f"-o {output}: expected a name that ends in {' or '.join(_ENDINGS)}")
    loaded = load_table(source, runs, where, overrides=overrides, whole_folder=whole_folder)
    write_table(_curves(loaded, source) if curves else loaded.table, output)
    print(output)


def _curves(loaded: Loaded, source: Path) -> pd.DataFrame:
    """The training curves of the loaded runs.

    Raises:
        UserError: the source is a CSV, or no run has a line.
    """
    from analysis.table import curves_table

    if not loaded.is_study:
        raise UserError(f"{source}: --curves reads the files of a study's runs, not a CSV")
    rows = curves_table(loaded.folder)
    rows = rows[rows["signature"].isin(loaded.table["signature"])].reset_index(drop=True)
    if rows.empty:
        raise UserError(f"{loaded.folder}: no run has a metrics.jsonl; was the folder thinned out?")
    return rows
