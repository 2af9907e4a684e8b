"""The verb `scaling verify`."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from scaling.atomic_files import json_values
from scaling.cli.options import AsJson
from scaling.cli.output import coloured, emit

if TYPE_CHECKING:
    from scaling.records import RunsCheck

__all__ = ["add_verbs"]


def add_verbs(app: typer.Typer) -> None:
    """Register the verb on the command `scaling`."""
    app.command("verify")(verify)


def verify(
    runs: Annotated[
        Path, typer.Argument(help="The folder of a study's runs, or of the runs of all studies.")
    ],
    as_json: AsJson = False,
) -> None:
    """Check that the records, models and curves of finished runs are as they were written; exit 1 if one is not.

    Compares digests, types, and sizes that must agree, reads measured latencies, and writes nothing.

    Example: scaling verify runs
    """
    from scaling.records import verify_runs

    found = _with_latencies(verify_runs(runs))
    n_damaged = len(found.damaged)
    lines = [
        f"{coloured('damaged', 'fail')}  {text}"
        for texts in found.damaged.values()
        for text in texts
    ]
    summary = f"{len(found.places)} finished runs: {len(found.places) - n_damaged} intact, {n_damaged} damaged"
    if found.n_without_digests:
        summary += f"; {found.n_without_digests} of earlier versions, without digests: types and sizes were checked"
    document = {"n_runs": len(found.places), **json_values(asdict(found))}
    del document["places"]
    emit("\n".join([*lines, summary]), document, as_json=as_json)
    if found.damaged:
        raise typer.Exit(1)


def _with_latencies(found: RunsCheck) -> RunsCheck:
    """Add the runs whose measured latencies cannot be read."""
    from scaling.errors import UserError
    from scaling.serving import read_serving

    damaged = dict(found.damaged)
    for place in found.places:
        try:
            read_serving(place)
        except UserError as error:
            damaged[place] = (*damaged.get(place, ()), str(error))
    return replace(found, damaged=damaged)
