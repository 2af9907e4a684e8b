"""The verb `scaling init`: a commented study file for a data set."""

from __future__ import annotations

import logging
import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from scaling.cli.options import Output
from scaling.cli.study_files.shipped_studies_verb import shipped_studies
from scaling.documents import read_toml
from scaling.errors import UserError, nearest

if TYPE_CHECKING:
    from scaling.study import DataConfig, DataFacts

__all__ = ["add_verbs"]


logger = logging.getLogger(__name__)

_GENERATED = "generated"
_DEFAULT_FILE = "study.toml"
_WHAT = "the folder of an event store, a study file or the name of data"


def add_verbs(app: typer.Typer) -> None:
    """Register the verb on the command `scaling`."""
    app.command("init")(init)


def init(
    data: Annotated[
        str,
        typer.Argument(
            metavar="DATA|NAME",
            help="Folder of an event store; a study file, or the name of one that comes with the package, with the same data; the "
            f"name of an importer whose store is in data/NAME; or `{_GENERATED}`.",
        ),
    ],
    name: Annotated[
        str | None, typer.Option(help="Name of the study [default: that of the data].")
    ] = None,
    output: Output = None,
) -> None:
    """Write a commented study file for a data set: every key with its meaning and default, and a grid that suits the data.

    With -o it goes to a file, which must not exist. The three commands to use next follow.

    Example: scaling init data/movielens-1m -o study.toml
    """
    from scaling.atomic_files import write_text
    from scaling.study import check_name, data_facts

    if output is not None and output.exists():
        raise UserError(f"{output}: already exists; choose another name, or remove it first")
    name = name or _study_name(data)
    check_name(name)
    section = _data_section(data)
    facts = data_facts(section)
    file = str(output) if output is not None and str(output) != "-" else _DEFAULT_FILE
    steps = _next_commands(file)
    text = _study_text(name, section, facts, steps)
    if output is None or str(output) == "-":
        print(text, end="", flush=True)
        logger.info("Save it as %s (or add -o %s), then:", file, file)
        for step in steps:
            logger.info("  %s", step)
    else:
        write_text(output, text)
        print("\n".join([str(output), "next:", *(f"  {step}" for step in steps)]), flush=True)


def _data_section(data: str) -> DataConfig:
    """The `[data]` of the new study.

    Raises:
        UserError: there are no such data.
    """
    import tomllib

    from scaling.importers import IMPORTERS
    from scaling.strict_values import from_document
    from scaling.study import DataConfig, load_study

    path = Path(data)
    if not data:
        raise UserError(f"DATA is empty, expected {_WHAT}")
    if path.is_file() and path.suffix == ".toml":
        _refuse_import_file(path)
        return load_study(path).data
    if path.is_file():
        raise UserError(
            f"{data}: a file, expected {_WHAT}; `scaling data import table FILE.toml DIR` makes a store DIR of a CSV or "
            "Parquet log, whose files and columns FILE.toml names (docs/data.md)"
        )
    if path.exists():
        return DataConfig(data)
    if data == _GENERATED:
        return DataConfig(
            "data/generated",
            {"n_train": 1_048_576, "n_test": 16_384, "window": 32, "warmup_events": 40},
        )
    if data in IMPORTERS:
        store = Path("data") / data
        if store.exists():
            return DataConfig(str(store))
        raise UserError(
            f"{store}: no event store; make it with: scaling data import {data} RAW {store}"
        )
    if "/" in data:
        raise UserError(
            f"{data}: no such folder; make a store with `scaling data import` or `scaling data generate`"
        )
    shipped = shipped_studies()
    if data in shipped:
        return from_document(DataConfig, tomllib.loads(shipped[data])["data"], data)
    known = [*IMPORTERS, *shipped, _GENERATED]
    raise UserError(f"{data}: no such folder, study file, importer or study{nearest(data, known)}")


def _refuse_import_file(path: Path) -> None:
    """Refuse a TOML that names the columns of a log, as it is easily taken for a study.

    Raises:
        UserError: it is one.
    """
    try:
        document = read_toml(path)
    except (OSError, ValueError):  # told by whoever reads it as a study
        return
    if "impressions" in document:
        quoted = shlex.quote(str(path))
        raise UserError(
            f"{path}: this is an import file; `scaling data import table {quoted} DIR` first, then `scaling init DIR`"
        )


def _study_name(data: str) -> str:
    """A name that may be that of a folder."""
    stem = Path(data).resolve().name.removesuffix(".toml")
    return re.sub(r"[^A-Za-z0-9_-]+", "-", stem).strip("-") or "study"


def _next_commands(file: str) -> list[str]:
    quoted = shlex.quote(file)
    return [
        f"scaling plan {quoted}     # cells, costs, and what the analysis could not tell; writes nothing",
        f"scaling run {quoted}      # trains what is missing, fits and reports; safe to stop and repeat",
        f"scaling status {quoted}   # how far it is",
    ]


def _study_text(name: str, section: DataConfig, facts: DataFacts, steps: list[str]) -> str:
    from scaling.study_keys import commented_study, fit_grid

    proposal = fit_grid(facts)
    data: dict[str, Any] = {"path": section.path}
    values = {"study": {"name": name}, "data": data, "grid": proposal.grid, "train": proposal.train}
    if section.generate is not None:
        values["data.generate"] = section.generate
    header = [*_header(name, facts), *proposal.remarks]
    return commented_study([*header, "", *steps], values)


def _header(name: str, facts: DataFacts) -> list[str]:
    shape, schema = facts.shape, facts.schema
    lines = [
        f"Study {name} on {facts.path}: {facts.n_train:,} impressions to train on, {facts.n_test:,} to test.",
        f"{len(schema.behaviour)} features of each behaviour, {len(schema.profile)} of the user, {len(schema.context)} of the "
        f"request; a request has {shape.per_request:.3g} impressions.",
    ]
    if facts.fingerprint is None:
        lines.append("The log is generated when the study runs.")
    if shape.history_quantiles:
        lines.append(
            f"Half of the histories are longer than {shape.history_at(0.5):,.0f} behaviours, a tenth than "
            f"{shape.history_at(0.9):,.0f}; a grade reads the latest L (`scaling grades`)."
        )
    lines.append(
        "The grid is a first one that a few cores can train; larger grades and more seeds make a better law."
    )
    return lines
