"""The verb `scaling diff`: in what two studies, two cells or two runs differ."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeGuard

import typer

from scaling.cli.options import AsJson, Runs
from scaling.cli.output import counted, emit
from scaling.cli.study_files.show_verb import cell_of, plain_value, study_settings
from scaling.cli.tables import Table
from scaling.documents import parse_json, read_json
from scaling.errors import UserError
from scaling.strict_values import from_document, tolerant

__all__ = ["add_verbs"]


_HELP = "A study file, STUDY#CELL (a cell's signature or name), or the folder of a run."
_MISSING = object()
# tells nothing of a run
_LEFT_OUT = ("config.schema_version",)
# of a run, what tells of the process and the machine, not of the results
_OF_PROCESS = (
    "provenance",
    "train_seconds",
    "samples_per_second",
    "peak_memory_gib",
)
_LONGEST = 100  # letters of a value that is printed


@tolerant
@dataclass(frozen=True)
class _Config:
    model: dict[str, Any]


@tolerant
@dataclass(frozen=True)
class _Settings:
    """What is needed of a run's document; all of it is compared, whatever its version."""

    config: _Config


def add_verbs(app: typer.Typer) -> None:
    """Register the verb on the command `scaling`."""
    app.command("diff")(diff)


def diff(
    one: Annotated[str, typer.Argument(metavar="A", help=_HELP)],
    other: Annotated[str, typer.Argument(metavar="B", help=_HELP)],
    runs: Runs = None,
    everything: Annotated[
        bool,
        typer.Option(
            "--all",
            help="Of two runs, also print what tells of the process (times, memory, hosts), and the size of lists of results.",
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Print in what two studies, two cells or two runs differ, and nothing else; settings come first.

    Of two runs with records, the results are compared as well. JSON has every value.

    Example: scaling diff studies/quickstart.toml studies/three-orders.toml
    """
    (kind, left), (other_kind, right) = _values(one, runs), _values(other, runs)
    if kind != other_kind and "study" in (kind, other_kind):
        raise UserError(
            f"{one} is a {kind} and {other} a {other_kind}; name a cell of the study as STUDY#CELL"
        )
    keys = [key for key in dict.fromkeys([*left, *right]) if key not in _LEFT_OUT]
    keys.sort(key=_group)
    if kind != other_kind:  # of a cell to train there are no results
        keys = [key for key in keys if key in left and key in right]
    differing = [
        (key, left.get(key, _MISSING), right.get(key, _MISSING))
        for key in keys
        if left.get(key, _MISSING) != right.get(key, _MISSING) and not _is_told_below(key, keys)
    ]
    shown = [
        (key, a, b)
        for key, a, b in differing
        if everything or not (_is_of_process(key) or _is_listed(a) or _is_listed(b))
    ]
    text: list[str | Table] = []
    if shown:
        rows = [[key, _text(a), _text(b)] for key, a, b in shown]
        text.append(Table(["key", one, other], rows))
    elif not differing:
        text.append(f"no difference in {counted(len(keys), 'value')}")
    if len(shown) < len(differing):
        rest = counted(len(differing) - len(shown), f"{'other ' * bool(shown)}value")
        text.append(f"{rest} of times, memory, hosts and days differ: --all shows them")
    document = [
        {"key": key, "a": None if a is _MISSING else a, "b": None if b is _MISSING else b}
        for key, a, b in differing
    ]
    emit(text, document, as_json=as_json)


def _text(value: object) -> str:
    if value is _MISSING:
        return "(none)"
    if _is_listed(value):
        return f"({len(value)} tables)" if len(value) != 1 else "(1 table)"
    text = plain_value(value)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."


def _is_listed(value: object) -> TypeGuard[list[Any]]:
    """Whether it is a list of tables, such as the attempts of a run."""
    return isinstance(value, list) and any(isinstance(one, dict) for one in value)


def _is_of_process(key: str) -> bool:
    return key.partition(".")[0] in _OF_PROCESS


def _group(key: str) -> int:
    """Settings come first, the process last."""
    return 2 if _is_of_process(key) else int(not key.startswith("config."))


def _is_told_below(key: str, keys: Sequence[str]) -> bool:
    """Whether it is a table that is empty or absent on one side and has keys of its own on the other."""
    return any(one.startswith(f"{key}.") for one in keys)


def _values(name: str, runs: Path | None) -> tuple[Literal["study", "cell", "run"], dict[str, Any]]:
    """What `name` stands for, and its values by key.

    Raises:
        UserError: there is no such study, cell or run.
    """
    path, study, cell = Path(name), *name.partition("#")[::2]
    if path.is_dir():
        return "run", _of_run(path)
    if cell and not path.exists():
        _, settings = cell_of(Path(study), cell, None, runs)
        return "cell", {f"config.{one.key}": _plain(one.value) for one in settings}
    return "study", {one.key: _plain(one.value) for one in study_settings(path, None)}


def _of_run(folder: Path) -> dict[str, Any]:
    """The values of a run, of its record if it is done."""
    from scaling.records import without_digest
    from scaling.study_keys import flat

    for name in ("record.json", "config.json"):
        file = folder / name
        if not file.exists():
            continue
        try:
            if name == "record.json":
                whole = parse_json(without_digest(file.read_bytes()).decode())
            else:
                whole = {"config": read_json(file)}
        except (OSError, ValueError) as error:
            raise UserError(f"{file}: cannot be read: {error}") from error
        config = from_document(_Settings, whole, str(file)).config
        values = dict(flat(whole))
        if "values" in config.model:  # a model that is no SUAN
            for key in [key for key in values if key.startswith("config.model.values.")]:
                values[key.replace(".values.", ".", 1)] = values.pop(key)
        return values
    raise UserError(f"{folder}: no record.json or config.json; expected the folder of a run")


def _plain(value: Any) -> Any:
    """As JSON gives it back."""
    return list(value) if isinstance(value, tuple) else value
