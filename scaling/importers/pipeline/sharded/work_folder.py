"""The work folder of a sharded import: its plan, its pieces, who makes which, and the errors.

A piece is a folder that appears at once and whole. A job that is killed leaves none, one that runs twice leaves the first.
"""

import hashlib
import json
import logging
import os
import shutil
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from traceback import format_exception
from typing import Any, Self

from scaling.atomic_files import write_json
from scaling.documents import read_json
from scaling.errors import StorageError, UserError
from scaling.importers.declaration import Log
from scaling.importers.pipeline.engine import Engine, Limits
from scaling.importers.raw_files import RawFile, find_files
from scaling.importers.sql import text

__all__ = ["FileGroup", "ShardedImport", "parquet", "part_files", "write_parquet", "write_parts"]


logger = logging.getLogger(__name__)

# A worker shows every so many seconds that it still makes a piece; after the second number, another one makes it.
_SECONDS_BETWEEN_BEATS, _SECONDS_UNTIL_STALE = 2.0, 20.0
# Each worker reads groups of files; more of them than shards, so that all workers end at about the same time.
_GROUPS_PER_SHARD = 2
_DOCUMENT = "piece.json"
_FILES = "files of the piece"


@dataclass(frozen=True)
class FileGroup:
    """Files of one table that one job reads."""

    table: str
    files: tuple[RawFile, ...]


@dataclass(frozen=True)
class ShardedImport:
    """An import that is cut into jobs; it can be pickled.

    Attributes:
        log: what is imported.
        raw: folder of the files.
        out: the new store; the work folder is beside it.
        source: where the log comes from.
        limits: of each worker.
        n_shards: number of parts into which the users are cut.
        plan: digest of the files, the options and the number of shards; see `planned`.
    """

    log: Log
    raw: Path
    out: Path
    source: Mapping[str, Any]
    limits: Limits
    n_shards: int
    plan: str = ""

    @property
    def work(self) -> Path:
        """The work folder; it has a folder for each plan."""
        return self.out.with_name(f".{self.out.name}.import")

    @property
    def folder(self) -> Path:
        """The folder of the pieces; with a plan of its own, no late worker of another import can put one there."""
        return self.work / self.plan

    def planned(self) -> Self:
        """Write the plan unless it is there; forget other plans, and the workers, errors and damaged pieces of this one.

        Returns the planned import.

        Raises:
            UserError: a file is missing.
        """
        groups = [
            {"table": group.table, "files": [_file_document(file) for file in group.files]}
            for group in _groups(self.log, self.raw, self.n_shards)
        ]
        document = {"source": dict(self.source), "shards": self.n_shards, "groups": groups}
        digest = hashlib.sha256(json.dumps(document).encode()).hexdigest()
        planned = replace(self, plan=digest[:16])
        others = [path for path in self.work.iterdir() if path != planned.folder]
        if others:
            logger.warning(
                "%s: the files, the options or --shards have changed since it was made; the import begins anew",
                self.work,
            )
        for folder in (*others, planned.folder / "claims", planned.folder / "errors"):
            shutil.rmtree(folder, ignore_errors=True)
        for name in ("claims", "errors"):
            (planned.folder / name).mkdir(parents=True)
        write_json(planned.folder / "plan.json", document)
        for piece in sorted(planned.folder.glob("*/*")):
            if piece.is_dir() and piece.name.isdecimal() and not _is_whole(piece):
                logger.warning("%s: damaged; it is made again", piece)
                shutil.rmtree(piece)
        return planned

    @cached_property
    def groups(self) -> tuple[FileGroup, ...]:
        """The groups of files, as planned."""
        plan = read_json(self.folder / "plan.json")
        return tuple(
            FileGroup(
                group["table"],
                tuple(
                    RawFile(Path(file["path"]), file["partitions"], file["is_part"])
                    for file in group["files"]
                ),
            )
            for group in plan["groups"]
        )

    def piece(self, phase: str, number: int = 0) -> Path:
        """Return the folder of a piece."""
        return self.folder / phase / f"{number:05d}"

    def done(self, phase: str) -> set[int]:
        """Return the numbers of the pieces that are made."""
        try:
            # a network file system may keep removed files there, under other names
            names = os.listdir(self.folder / phase)  # noqa: PTH208
            return {int(name) for name in names if name.isdecimal()}
        except FileNotFoundError:
            return set()

    def document(self, phase: str, number: int = 0) -> dict[str, Any]:
        """Return what a piece states.

        Raises:
            UserError: the file is not as it was written.
        """
        path = self.piece(phase, number) / _DOCUMENT
        try:
            document: dict[str, Any] = read_json(path)
            is_whole = document.pop("digest") == _digest(document)
            del document[_FILES]
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            is_whole = False
        if not is_whole:
            raise UserError(f"{path}: damaged; remove {self.work} to begin the import anew")
        return document

    def documents(self, phase: str) -> list[dict[str, Any]]:
        """Return what all pieces of a phase state, in their order."""
        return [self.document(phase, number) for number in sorted(self.done(phase))]

    def make(self, phase: str, number: int, fill: Callable[[Path], Mapping[str, Any]]) -> None:
        """Make a piece: `fill` writes files into a folder, and returns what the piece states.

        Raises:
            StorageError: it cannot be written.
        """
        piece = self.piece(phase, number)
        temporary = self.folder / "unfinished" / f"{phase}-{number}-{uuid.uuid4().hex[:8]}"
        try:
            temporary.mkdir(parents=True)
            stated = json.loads(json.dumps(dict(fill(temporary))))  # as it will be read
            stated[_FILES] = _file_digests(temporary)
            write_json(temporary / _DOCUMENT, {**stated, "digest": _digest(stated)})
            _sync(temporary)
            piece.parent.mkdir(exist_ok=True)
            temporary.rename(piece)
        except OSError as error:
            if not piece.exists():
                raise StorageError(
                    f"{piece}: cannot be written: {error.strerror or error}"
                ) from error
        finally:
            shutil.rmtree(temporary, ignore_errors=True)

    @contextmanager
    def claimed(self, phase: str, number: int, owner: str) -> Iterator[bool]:
        """Yield whether this worker is the one to make a piece; it is not if another one shows that it does.

        Two workers that both are, because a clock or a disk is slow, do no harm.
        """
        claim = self.folder / "claims" / f"{phase}-{number}"
        if not _take(claim, owner):
            yield False
            return
        stop = threading.Event()

        def beat() -> None:
            while not stop.wait(_SECONDS_BETWEEN_BEATS):
                with suppress(OSError):
                    claim.touch()

        thread = threading.Thread(target=beat, daemon=True)
        thread.start()
        try:
            yield True
        finally:
            stop.set()
            thread.join()
            with suppress(OSError):
                claim.unlink()

    def note_error(self, phase: int, number: int, error: Exception) -> None:
        """Tell the other workers that this import has failed."""
        kind = "storage" if isinstance(error, StorageError) else "user"
        if not isinstance(error, UserError):
            kind = type(error).__name__
        write_json(
            self.folder / "errors" / f"{phase:02d}-{number:05d}.json",
            {"kind": kind, "message": str(error), "trace": "".join(format_exception(error))},
        )

    def has_failed(self) -> bool:
        """Whether a worker has met an error, or the import is over."""
        try:
            return bool(os.listdir(self.folder / "errors"))  # noqa: PTH208
        except FileNotFoundError:
            return True

    def raise_first_error(self) -> None:
        """Raise the error of the first job that has met one, if there is one.

        Raises:
            UserError: the input is bad, or a file cannot be written.
            RuntimeError: any other error.
        """
        files = sorted((self.folder / "errors").glob("*.json"))
        if files:
            found = read_json(files[0])
            kind, message = found["kind"], found["message"]
            if kind in ("user", "storage"):
                raise (StorageError if kind == "storage" else UserError)(message)
            raise RuntimeError(f"{kind}: {message}\n{found['trace']}")


def _digest(document: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()


def _file_digests(folder: Path) -> dict[str, str]:
    """The SHA-256 of each file of a piece, by its path in the folder, without the document."""
    found = {}
    for file in sorted(folder.rglob("*")):
        if file.is_file() and file != folder / _DOCUMENT:
            with file.open("rb") as stream:
                digest = hashlib.file_digest(stream, "sha256").hexdigest()
            found[file.relative_to(folder).as_posix()] = digest
    return found


def _is_whole(piece: Path) -> bool:
    """Whether a piece is as it was made."""
    try:
        document = read_json(piece / _DOCUMENT)
        as_stated = document.pop("digest") == _digest(document)
        return as_stated and bool(document[_FILES] == _file_digests(piece))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def _sync(folder: Path) -> None:
    """Bring all files to the disk, so that a piece is whole after a power failure, too."""
    for file in folder.rglob("*"):
        if file.is_file():
            with file.open("rb+") as stream:
                os.fsync(stream.fileno())


def _take(claim: Path, owner: str) -> bool:
    for _ in range(2):
        try:
            descriptor = os.open(claim, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
        except FileExistsError:
            with suppress(OSError):
                is_own = claim.read_text(encoding="utf-8") == owner
                if is_own or time.time() - claim.stat().st_mtime > _SECONDS_UNTIL_STALE:
                    claim.unlink()
                    continue
            return False
        except OSError:  # the import is over
            return False
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(owner)
        return True
    return False


def _groups(log: Log, raw: Path, n_shards: int) -> list[FileGroup]:
    """Cut the files of each table into groups of about the same size."""
    files = {
        name: find_files(raw, table.files, by_number=table.has_row_numbers)
        for name, table in log.tables.items()
    }
    sizes = {file.path: file.path.stat().st_size for found in files.values() for file in found}
    most = max(1, sum(sizes.values()) // (_GROUPS_PER_SHARD * n_shards))
    groups = []
    for name, found in files.items():
        group: list[RawFile] = []
        size = 0
        for file in found:
            if group and size + sizes[file.path] > most:
                groups.append(FileGroup(name, tuple(group)))
                group, size = [], 0
            group.append(file)
            size += sizes[file.path]
        groups.append(FileGroup(name, tuple(group)))
    return groups


def _file_document(file: RawFile) -> dict[str, Any]:
    found = file.path.stat()
    document = asdict(file) | {"path": str(file.path)}
    return {**document, "bytes": found.st_size, "changed": found.st_mtime_ns}


def parquet(files: Iterable[Path]) -> str:
    """Return SQL for the rows of Parquet files of the same columns."""
    paths = ", ".join(text(file) for file in files)
    return f"read_parquet([{paths}], hive_partitioning = false)"


def write_parquet(engine: Engine, select: str, file: Path) -> None:
    """Write the rows of a SELECT into a Parquet file."""
    engine.run(f"COPY ({select}) TO {text(file)} (FORMAT parquet)")


def write_parts(engine: Engine, select: str, part: str, folder: Path) -> None:
    """Write the rows of a SELECT into `folder`, those with each value of the column `part` into files of their own."""
    folder.mkdir()
    write_parquet(
        engine,
        f"SELECT * EXCLUDE ({part}) FROM ({select}) LIMIT 0",
        folder / "none.parquet",
    )
    engine.run(
        f"COPY (SELECT * RENAME ({part} AS part) FROM ({select})) TO {text(folder / 'parts')} "
        "(FORMAT parquet, PARTITION_BY (part))"
    )


def part_files(folder: Path, part: int | None) -> list[Path]:
    """Return the files of one part that `write_parts` has written, or of all; at least one without rows."""
    pattern = "part=*/*.parquet" if part is None else f"part={part}/*.parquet"
    return [folder / "none.parquet", *sorted((folder / "parts").glob(pattern))]
