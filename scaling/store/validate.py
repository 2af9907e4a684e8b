"""Whether a folder written by any program is an event store: every breach of the format, one line each."""

from pathlib import Path

from scaling.errors import UserError
from scaling.store.constraints import find_breaches
from scaling.store.event_store import map_array, open_store
from scaling.store.format import array_table
from scaling.store.manifest import document_breaches, read_document

__all__ = ["validate_store"]


def validate_store(path: Path | str) -> list[str]:
    """Return one line for each rule of docs/file-formats.md that the folder breaks; empty for a good store.

    Three steps, each of which must be clean before the next: the keys of `dataset.json`, the files of the
    arrays (there, of the right type and length), and their contents.

    Raises:
        UserError: `path` is not a store at all, or one of another version of the format.
    """
    path = Path(path)
    if breaches := document_breaches(path):
        return breaches
    document, checked = read_document(path)
    counts = checked.counts
    has_probability = "impressions/probability" in checked.arrays
    table = array_table(
        checked.schema, counts.users, counts.events, counts.impressions, has_probability
    )
    arrays = {}
    for name, spec in table.items():
        if name not in checked.arrays:
            breaches.append(f"{path / 'dataset.json'}: arrays: no entry {name!r}")
        try:
            arrays[name] = map_array(path / f"{name}.npy", spec)
        except UserError as error:
            breaches.append(str(error))
    return breaches or list(find_breaches(open_store(path), document, arrays))
