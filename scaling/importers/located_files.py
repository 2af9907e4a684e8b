"""Finding the files and columns of a download, because archives unpack to different folders and names differ."""

from pathlib import Path

from scaling.errors import UserError
from scaling.importers.declaration import Table
from scaling.importers.raw_files import PACKED, field_positions, find_files

__all__ = ["column_called", "locate"]


DEPTHS = ("", "*/", "*/*/")  # RAW is the folder of the files, its parent or its grandparent


def locate(raw: Path, pattern: str) -> tuple[str, ...]:
    """Return the files that match the name or glob, plain or compressed, in `raw` or up to two folders below.

    Paths are relative to `raw`, sorted, and from the first depth with a match. If a file exists both plain and
    compressed, only the plain one is returned. Without a match the pattern itself is returned; reading it later
    reports the missing file.
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
    """Return the first of `names` that is in the header of the first file, or else the first name."""
    for name in names:
        try:
            field_positions(find_files(raw, files)[0].path, Table(files, {name: "text"}))
        except UserError:
            continue
        return name
    return names[0]
