"""A copy of the code beside a sweep, so that jobs that start later run the code that was submitted."""

import hashlib
import shutil
from collections.abc import Mapping
from pathlib import Path

from scaling.atomic_files import atomic_folder, write_json
from scaling.records import RunStore, read_code_version

__all__ = ["PACKAGES", "code_root", "snapshot"]


PACKAGES = ("models", "scaling", "sweeps", "analysis")


def code_root() -> Path:
    """Return the folder that contains the four packages."""
    return Path(__file__).resolve().parents[2]


def snapshot(runs: RunStore, own: Mapping[str, str] | None = None) -> Path:
    """Copy the packages to `code/<hash>/` in the study's runs folder, unless that exists; return the folder.

    Args:
        runs: the study's.
        own: texts of further sources by relative path, those of a user's model.

    Raises:
        StorageError: the folder cannot be written.
    """
    root = code_root()
    files = sorted(
        path
        for package in PACKAGES
        for path in (root / package).rglob("*")
        if path.suffix in (".py", ".typed", ".j2") and path.is_file()
    )
    digest = hashlib.sha256()
    for path in files:
        digest.update(f"{path.relative_to(root)}\0".encode() + path.read_bytes() + b"\0")
    for name, text in sorted((own or {}).items()):
        digest.update(f"{name}\0{text}\0".encode())
    folder = runs.root.resolve() / "code" / digest.hexdigest()[:16]
    if folder.exists():
        return folder
    with atomic_folder(folder) as temporary:
        for path in files:
            target = temporary / path.relative_to(root)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
        for name, text in (own or {}).items():
            target = temporary / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text, encoding="utf-8")
        # the copy is outside the repository
        write_json(temporary / "provenance.json", read_code_version(root))
    return folder
