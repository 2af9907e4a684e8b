"""Where a download's files are and what their columns are called: archives unpack in several ways."""

from pathlib import Path

from scaling.errors import UserError
from scaling.importers.declaration import Table
from scaling.importers.raw_files import PACKED, field_positions, find_files

__all__ = ["column_called", "locate"]


DEPTHS = ("", "*/", "*/*/")  # the folder of the files, one that holds it, or one above that


def locate(raw: Path, pattern: str) -> tuple[str, ...]:
    """Return the files that match the name or glob, plain or packed, in `raw` or up to two folders below.

    Paths are relative to `raw`, sorted, and from the first depth that has any. A file that lies there both
    plain and packed is taken once, plain. Without any the pattern itself is returned: its reader tells what is missing.
    """
    for depth in DEPTHS:
        found: dict[str, str] = {}
        for end in ("", *PACKED):
            for file in sorted(raw.glob(f"{depth}{pattern}{end}")):
                name = str(file.relative_to(raw))
                if file.is_file():
                    found.setdefault(name.removesuffix(end), name)
        if found:
            return tuple(sorted(found.values()))
    return (pattern,)


def column_called(raw: Path, files: tuple[str, ...], *names: str) -> str:
    """Return the first of `names` that the files' header has, else the first name."""
    for name in names:
        try:
            field_positions(find_files(raw, files)[0], Table(files, {name: "text"}))
        except UserError:
            continue
        return name
    return names[0]
