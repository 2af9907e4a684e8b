"""The files in a study's run folders, read once with few checks: planning 10,000 cells takes under two seconds."""

import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from datetime import datetime
from functools import cache
from typing import Annotated, Any

from pydantic import Field, FiniteFloat

from scaling.documents import open_regular, read_json
from scaling.errors import UserError
from scaling.records import RunStore, is_attempt, read_attempts, without_digest
from scaling.strict_values import fits, tolerant
from scaling.study import RunConfig

__all__ = ["History", "former_runs", "read_history"]


_Options = dict[str, str | int | float | bool | None]
_Count = Annotated[int, Field(ge=0, lt=10**30)]
_Amount = Annotated[float, Field(ge=0, allow_inf_nan=False)]


@dataclass(frozen=True)
class _Distill:
    teacher: _Options
    model: _Options
    learning_rate: float | None


@dataclass(frozen=True)
class _Config:
    grade: _Options
    model: _Options
    packing: str
    n_samples: int
    distill: _Distill | None = None


@tolerant
@dataclass(frozen=True)
class _Record:
    """The fields of a record that a plan uses, with their types; records of older versions have them, too."""

    config: _Config
    n_params: _Count
    n_embedding_params: _Count
    flops_per_sample: _Count
    flops: _Count
    metrics: dict[str, FiniteFloat]
    train_loss: _Amount
    train_seconds: _Amount
    samples_per_second: _Amount
    peak_memory_gib: _Amount
    provenance: dict[str, Any]


@dataclass(frozen=True)
class History:
    """The names of all folders, all records as plain documents by their signatures, and what is wrong with damaged ones."""

    runs: RunStore
    folders: frozenset[str]
    records: dict[str, dict[str, Any]]
    damaged: dict[str, str] = field(default_factory=dict)
    _counted: set[str] = field(default_factory=set)

    def without(self, signatures: Iterable[str]) -> tuple[str, ...]:
        """Return the signatures of all runs that are not among these."""
        others = self.folders.difference(signatures)
        return tuple(sorted(name for name in others if _is_signature(name)))

    def damage_of(self, config: RunConfig) -> str:
        """Return what is wrong with the record of a planned run; empty if nothing is.

        A record that is not of this configuration, as after folders were swapped, is no longer among `records`.
        """
        signature = config.signature
        record = self.records.get(signature)
        if record is not None and not _agrees(record["config"], config):
            try:
                self.runs.read(signature)
            except UserError as error:
                self.damaged[signature] = str(error)
                del self.records[signature]
        return self.damaged.get(signature, "")

    def attempts(self, key: str, signature: str) -> list[dict[str, Any]]:
        """Return the attempts of a run, from its record if it has one."""
        record = self.records.get(signature)
        if record is not None:
            attempts = record["provenance"].get("attempts")
            return list(filter(is_attempt, attempts)) if isinstance(attempts, list) else []
        return read_attempts(self.runs.folder(key))

    def spend(self, attempts: Sequence[Mapping[str, Any]]) -> float:
        """Return the seconds that these attempts took; one that served several runs counts only once.

        Of an attempt that shared its GPU with others, its share of the time counts.
        """
        seconds = 0.0
        for attempt in attempts:
            name = str(attempt.get("id"))
            if name not in self._counted:
                self._counted.add(name)
                seconds += _seconds(attempt) / _cells_per_gpu(attempt)
        return seconds


def read_history(runs: RunStore) -> History:
    """Read all records, and the names of all folders."""
    folders: frozenset[str] = frozenset()
    with suppress(FileNotFoundError), os.scandir(runs.root) as entries:
        folders = frozenset(entry.name for entry in entries)
    records, damaged = {}, {}
    root = str(runs.root)
    for name in folders:
        text = b""
        try:
            with open_regular(f"{root}/{name}/record.json") as file:
                text = file.read()
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError:
            if not _is_signature(name):
                continue
        try:
            if not _is_whole(text):
                runs.read(name)  # raises an error that says what is wrong and what to do
        except UserError as error:
            damaged[name] = str(error)
            continue
        records[name] = json.loads(text)
    return History(runs, folders, records, damaged)


def _is_signature(name: str) -> bool:
    return re.fullmatch("[0-9a-f]{16}", name) is not None


_plain = cache(asdict)  # there are few grades and models, but many cells


def _agrees(document: Mapping[str, Any], part: object) -> bool:
    """Whether the plain values of a configuration's document are those of the configuration; names do not count."""
    for name, value in document.items():
        own = getattr(part, name, value)
        if isinstance(value, dict):
            if own is None:
                return False
            # equal as a whole in most records, which takes a tenth of the time
            if own is not value and value != _plain(own) and not _agrees(value, own):
                return False
        elif own != value and not name.endswith("_name") and not isinstance(value, list):
            return False
    return True


def _is_whole(text: bytes) -> bool:
    try:
        return fits(_Record, without_digest(text))
    except ValueError:
        return False


def former_runs(
    runs: RunStore, signatures: Sequence[str]
) -> dict[tuple[Any, ...], list[dict[str, Any]]]:
    """Return the configurations of runs that are no longer in the grid, by grade, size and seed."""
    found: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for signature in signatures:
        # also if it is no configuration, as that of another version may be
        with suppress(OSError, ValueError, KeyError, TypeError):
            document = read_json(runs.folder(signature) / "config.json")
            key = (document["grade_name"], document["n_samples"], document["seed"])
            found.setdefault(key, []).append(document)
    return found


def _cells_per_gpu(attempt: Mapping[str, Any]) -> int:
    """How many cells shared the GPU of an attempt."""
    n_cells = attempt.get("cells_per_gpu")
    return n_cells if isinstance(n_cells, int) and n_cells > 0 else 1


def _seconds(attempt: Mapping[str, Any]) -> float:
    """Return the duration of an attempt: until its end, or until its last heartbeat."""
    with suppress(KeyError, TypeError, ValueError, OverflowError):
        start = datetime.fromisoformat(attempt["started"]).timestamp()
        if attempt.get("ended"):
            return datetime.fromisoformat(attempt["ended"]).timestamp() - start
        return max(0.0, float(attempt["time"]) - start)
    return 0.0
