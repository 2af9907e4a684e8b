"""Edits of a store's files, as a bug of another program would make them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["edit_array", "edit_document", "set_row"]


def edit_array(store: Path, name: str, edit: Callable[[Any], Any]) -> Path:
    """Replace the array `name` by what `edit` makes of it, without changing dataset.json; return its file."""
    file = store / f"{name}.npy"
    np.save(file, edit(np.load(file)))
    return file


def set_row(row: int, value: float) -> Callable[[Any], Any]:
    """Return an edit that sets one row."""

    def edit(array: Any) -> Any:
        array[row] = value
        return array

    return edit


def edit_document(store: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    """Change dataset.json in place."""
    file = store / "dataset.json"
    document = json.loads(file.read_text())
    edit(document)
    file.write_text(json.dumps(document))
