"""Real logs into event stores: one module per data set, one line here.

To add one, write `run(raw, out, options) -> EventStore` in a module of its own (`movielens` is the model:
`delimited` reads, `vocabulary` makes ids, `options` reads options), register it in `IMPORTERS`
and tell its options in the help of `scaling data import`.
"""

from collections.abc import Callable, Mapping
from pathlib import Path

from scaling.errors import UserError, nearest
from scaling.importers import movielens
from scaling.store import EventStore

__all__ = ["IMPORTERS", "import_logs"]

IMPORTERS: dict[str, Callable[[Path, Path, Mapping[str, str]], EventStore]] = {
    "movielens-1m": movielens.import_movielens_1m,
}


def import_logs(
    name: str, raw: Path | str, out: Path | str, options: Mapping[str, str] | None = None
) -> EventStore:
    """Import the data set `name` from the folder `raw` into a new store at `out`.

    Raises:
        UserError: no such importer, bad options or input, or `out` exists; nothing is left behind.
    """
    if name not in IMPORTERS:
        raise UserError(f"{name}: no such importer{nearest(name, IMPORTERS)}")
    raw, out = Path(raw), Path(out)
    if not raw.is_dir():
        raise UserError(f"{raw}: no such folder; expected the unpacked files of {name}")
    if out.exists():
        raise UserError(f"{out}: already exists; choose another folder or remove this one first")
    return IMPORTERS[name](raw, out, options or {})
