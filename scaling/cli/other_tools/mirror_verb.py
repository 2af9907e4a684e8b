"""The verb `scaling mirror`: runs in the trackers that teams use."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from scaling.cli.options import Runs
from scaling.cli.output import counted, runs_root
from scaling.cli.progress import work_progress
from scaling.errors import UserError

if TYPE_CHECKING:
    from scaling.mirrors import RunFacts

__all__ = ["add_verbs"]


logger = logging.getLogger(__name__)


class TrackerName(StrEnum):
    """Where runs can be mirrored to."""

    TENSORBOARD = "tensorboard"
    MLFLOW = "mlflow"
    WANDB = "wandb"


def add_verbs(app: typer.Typer) -> None:
    """Register the verb on the command `scaling`."""
    app.command("mirror")(mirror)


def mirror(
    study: Annotated[
        Path, typer.Argument(metavar="STUDY", help="A study file, or a study's run folder.")
    ],
    to: Annotated[
        TrackerName,
        typer.Option(
            help="tensorboard: event files; mlflow: an SQLite file or a server; wandb: offline runs."
        ),
    ],
    into: Annotated[
        str | None,
        typer.Option(
            metavar="PLACE",
            help="Folder of the mirror; for mlflow an SQLite file or a tracking URI [default: in the "
            "study's run folder, mirrors].",
        ),
    ] = None,
    runs: Runs = None,
) -> None:
    """Copy settings, training curves and final numbers of runs to a tracker; repeat it to add what is new.

    Needs the tracker's extra, e.g. `pip install "ctr-scaling[mlflow]"`. Works while cells are trained, and changes no run.

    Example: scaling mirror studies/quickstart.toml --to tensorboard
    """
    from scaling.mirrors import TRACKERS, mirror_runs, open_mirror, read_facts

    folder = _folder(study, runs)
    facts = read_facts(folder)
    tracker = TRACKERS[to.value]
    place = into or str(folder / tracker.place)
    target = open_mirror(to.value, place)
    try:
        with work_progress(f"mirror to {to.value}") as report:
            counts = mirror_runs(_reported(facts, report), target)
    finally:
        target.close()
    waiting = f", {counts.waiting} not finished yet" if counts.waiting else ""
    logger.info(
        "%s, %s: %d new, %d continued, %d unchanged%s; see `%s`",
        to.value,
        counted(len(facts), "run"),
        counts.new,
        counts.continued,
        counts.unchanged,
        waiting,
        tracker.look(place),
    )
    print(place)


def _reported(
    facts: Sequence[RunFacts], report: Callable[[float, str, float], None]
) -> Iterator[RunFacts]:
    """The runs, with a report before each of them."""
    begin = time.monotonic()
    for number, run in enumerate(facts):
        share = number / len(facts)
        left = (time.monotonic() - begin) * (1 - share) / share if number else math.nan
        report(share, run.label, left)
        yield run


def _folder(study: Path, runs: Path | None) -> Path:
    """The folder of the study's runs.

    Raises:
        UserError: the study file cannot be read, or it is a file of another kind.
    """
    if study.suffix == ".toml":
        from scaling.study import load_study

        return runs_root(runs) / load_study(study).study.name
    if study.is_file():
        raise UserError(f"{study}: expected a study file (.toml) or a folder of runs")
    return study
