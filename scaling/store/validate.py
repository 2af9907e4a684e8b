"""`validate_store`: one line for every rule of the format that a store breaks, whichever program wrote it.

Only the order of the checks is here: keys, then files, then contents. The rules for the contents are in
`scaling.store.validation_rules`; a new rule belongs there.
"""

from pathlib import Path

from scaling.errors import UserError
from scaling.store.manifest import document_breaches, read_document
from scaling.store.opening import map_array, open_store, stated_arrays
from scaling.store.validation_rules import find_breaches

__all__ = ["validate_store"]


def validate_store(path: Path | str) -> list[str]:
    """Return one line for each rule of docs/file-formats.md that the store breaks; empty for a valid store.

    There are three steps, and each runs only if the one before found nothing: the keys of `dataset.json`, the
    files of the arrays (present, of the right type and length), and their contents.

    Raises:
        UserError: `path` is not a store, or is a store of another version of the format.
    """
    path = Path(path)
    if breaches := document_breaches(path):
        return breaches
    document, checked = read_document(path)
    arrays = {}
    for name, spec in stated_arrays(checked).items():
        if name not in checked.arrays:
            breaches.append(f"{path / 'dataset.json'}: arrays: no entry {name!r}")
        try:
            arrays[name] = map_array(path / f"{name}.npy", spec)
        except UserError as error:
            breaches.append(str(error))
    return breaches or list(find_breaches(open_store(path), document, arrays))
