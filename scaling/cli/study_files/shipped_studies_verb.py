"""The verb `scaling studies`, which lists and copies the study files that come with the package."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from scaling.cli.options import AsJson
from scaling.cli.output import emit
from scaling.cli.tables import Table
from scaling.errors import UserError, nearest

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

__all__ = ["add_verbs", "shipped_studies"]


def add_verbs(app: typer.Typer) -> None:
    """Register the verb on the command `scaling`."""
    app.command("studies")(studies)


def studies(
    name: Annotated[
        str | None,
        typer.Argument(metavar="[NAME]", help="Print this study file [default: a list]."),
    ] = None,
    as_json: AsJson = False,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="Write here instead of stdout; a new file."),
    ] = None,
) -> None:
    """List the study files that come with the package, or copy one of them.

    Example: scaling studies quickstart -o quickstart.toml
    """
    import tomllib

    shipped = shipped_studies()
    if name is None:
        rows = [
            (found, study["study"].get("description", ""), study["data"]["path"])
            for found, text in shipped.items()
            for study in [tomllib.loads(text)]
        ]
        header = ("study", "description", "data")
        documents = [dict(zip(header, row, strict=True)) for row in rows]
        emit(Table(header, rows), documents, as_json=as_json, output=output)
        return
    text = shipped.get(name.removesuffix(".toml").removeprefix("studies/"))
    if text is None:
        raise UserError(f"{name}: no such study{nearest(name, shipped)}")
    if output is not None and output.exists():
        raise UserError(f"{output}: exists; remove it, or give another name")
    emit(text.rstrip("\n"), {"study": name, "text": text}, as_json=as_json, output=output)


def shipped_studies() -> dict[str, str]:
    """Return the text of each study file by its name, e.g. `race` or `paper/ffn`, in the order of the names.

    Raises:
        UserError: the installation has none.
    """
    from importlib.resources import files

    packed = files("scaling") / "shipped_studies"  # so pyproject.toml names studies/ in a wheel
    folder = packed if packed.is_dir() else Path(__file__).parents[3] / "studies"
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; this installation has no study files")
    return dict(sorted(_read(folder, "").items(), key=lambda found: ("/" in found[0], found[0])))


def _read(folder: Traversable, prefix: str) -> dict[str, str]:
    texts: dict[str, str] = {}
    for entry in folder.iterdir():
        if entry.is_dir():
            texts |= _read(entry, f"{prefix}{entry.name}/")
        elif entry.name.endswith(".toml"):
            texts[prefix + entry.name.removesuffix(".toml")] = entry.read_text(encoding="utf-8")
    return texts
