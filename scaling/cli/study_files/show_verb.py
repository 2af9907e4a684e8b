"""The verb `scaling show`: every value of a study or of one cell, and where it comes from."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from scaling.cli.options import AsJson, Overrides, Runs, Study
from scaling.cli.output import emit
from scaling.cli.sweep import cell_by_signature, load_plan
from scaling.cli.tables import Table
from scaling.errors import UserError, nearest

if TYPE_CHECKING:
    from scaling.study_keys import Setting
    from sweeps.planning import Plan, PlannedCell

__all__ = ["add_verbs", "cell_of", "plain_value", "study_settings"]


_DIGITS = 8  # of a signature, as `scaling plan` prints them
_MOST = 8  # cells that a message lists


def add_verbs(app: typer.Typer) -> None:
    """Register the verb on the command `scaling`."""
    app.command("show")(show)


def show(
    study: Study,
    cell: Annotated[
        str | None,
        typer.Argument(
            metavar="[CELL]",
            help="Signature of a cell, or its first digits; or its name, as in 'SUAN-2 D=16384 s0'.",
        ),
    ] = None,
    overrides: Overrides = None,
    runs: Runs = None,
    as_json: AsJson = False,
) -> None:
    """Print every value of a study, or of one of its cells, and where it comes from: a line, the grid, the recipe, a default.

    Example: scaling show studies/quickstart.toml 'W4 D=65536 s0'
    """
    head = []
    settings = study_settings(study, overrides)
    if cell is not None:
        planned, settings = cell_of(study, cell, overrides, runs)
        config = planned.config
        has_data = bool(config.data_fingerprint)
        signature = config.signature if has_data else "known when the data are there"
        head = [f"{config.label}, signature {signature}, {planned.standing}"]
    rows = [[one.key, one.otherwise or plain_value(one.value), one.origin] for one in settings]
    document = [
        {"key": one.key, "value": one.value, "otherwise": one.otherwise, "from": one.origin}
        for one in settings
    ]
    emit([*head, Table(["key", "value", "from"], rows)], document, as_json=as_json)


def study_settings(study: Path, overrides: list[str] | None) -> list[Setting]:
    """Return every key of a study file with its value and origin.

    Raises:
        UserError: the study file cannot be read or has a wrong key or value.
    """
    from scaling.study import load_study
    from scaling.study_keys import settings_of

    config = load_study(study, overrides or ())
    return settings_of(config, study.read_text(encoding="utf-8"), overrides or ())


def cell_of(
    study: Path, cell: str, overrides: list[str] | None, runs: Path | None
) -> tuple[PlannedCell, list[Setting]]:
    """Return a cell of a study by its signature or name, and its values with their origins.

    Raises:
        UserError: there is no such cell, or the study or its data are bad.
    """
    from scaling.study_keys import settings_of_cell

    made, _ = load_plan(study, overrides, runs, reading=True)
    named = [one for one in made.cells if one.config.label == cell]
    if not named and not any(one.config.signature.startswith(cell) for one in made.cells):
        raise UserError(f"cell {cell}: no such cell{_nearest_cell(made, cell)}")
    planned = named[0] if named else cell_by_signature(made, cell, study)
    settings = settings_of_cell(made.study, study_settings(study, overrides), planned.config)
    return planned, settings


def _nearest_cell(made: Plan, cell: str) -> str:
    """The name that is meant, or the first names with their signatures."""
    configs = [one.config for one in made.cells]
    hint = nearest(cell, (config.label for config in configs))
    if "did you mean" in hint:
        return hint
    names = [
        f"'{config.label}' ({config.signature[:_DIGITS]})"
        if config.data_fingerprint
        else f"'{config.label}'"
        for config in configs
    ]
    more = f" and {len(names) - _MOST} more" if len(names) > _MOST else ""
    return f", expected a name or a signature, one of: {', '.join(names[:_MOST])}{more}"


def plain_value(value: Any) -> str:
    """A value as TOML writes it; `-` if there is none."""
    from scaling.study_keys import toml_value

    return "-" if value is None else toml_value(value)
