"""The store of a generated log, written piece by piece, so that memory does not grow with the log."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from scaling.arrays import Array
from scaling.errors import UserError
from scaling.metrics import true_limits
from scaling.store import (
    HistoryLengths,
    Schema,
    StoreDescription,
    StoreWriter,
    array_table,
    one_class,
)
from scaling.synthetic.spool import ColumnSpool, TimeSpool
from scaling.synthetic.users import BUSY_SECONDS, START
from scaling.synthetic.world import COMPONENTS, Block

__all__ = ["LogWriter", "Piece"]


@dataclass(frozen=True)
class Piece:
    """A block of users with its clicks, cut to the number of impressions needed.

    `contributions` [impressions, COMPONENTS] are the parts of the logit; their sum and the intercept give `probability`.
    """

    block: Block
    contributions: Array
    probability: Array
    label: Array


class LogWriter:
    """Takes the pieces of a log one by one, keeps them in files, and writes the store.

    Args:
        temporary: an empty folder for the files.
        schema: of the store.
        n_train: number of impressions in the training part.
        n_test: the same for the test part.
    """

    def __init__(self, temporary: Path, schema: Schema, n_train: int, n_test: int) -> None:
        self._schema, self._n_train, self._n_test = schema, n_train, n_test
        for name in ("events", "users", "train", "test"):
            (temporary / name).mkdir()
        self._events = ColumnSpool(temporary / "events")
        self._users = ColumnSpool(temporary / "users")
        self._train = TimeSpool(temporary / "train", n_train, START, BUSY_SECONDS)
        self._test = TimeSpool(temporary / "test", n_test, START, BUSY_SECONDS)
        self._lengths = HistoryLengths()

    def add(self, piece: Piece, *, in_test: bool) -> None:
        """Append a piece; users and events get the next free numbers."""
        block = piece.block
        own = block.history_end - block.offsets[block.user]
        self._lengths.add(own)
        columns: dict[str, Array] = {
            "time": block.time,
            "user": block.user + np.int32(self._users.rows),
            "history_end": block.history_end + self._events.rows,
            **{f"candidate.{name}": values for name, values in block.candidates.items()},
            **{f"context.{name}": values for name, values in block.contexts.items()},
            "label": piece.label.astype(np.uint8),
            "probability": piece.probability.astype(np.float32),
        }
        if in_test:
            for k, name in enumerate(COMPONENTS):
                columns[f"component.{name}"] = piece.contributions[:, k].astype(np.float32)
        types = [(name, values.dtype) for name, values in columns.items()]
        rows = np.empty(len(block.user), dtype=types)
        for name, values in columns.items():
            rows[name] = values
        (self._test if in_test else self._train).add(rows)
        counts = np.diff(block.offsets)
        self._users.add({"n_events": counts, **block.profiles})
        self._events.add({"time": block.event_time, **block.behaviours})

    def write(self, folder: Path, path: Path, source: Mapping[str, Any]) -> None:
        """Write the store's files into `folder`; errors name `path`.

        Raises:
            UserError: the training part has only one class.
        """
        table = array_table(
            self._schema,
            self._users.rows,
            self._events.rows,
            self._n_train + self._n_test,
            has_probability=True,
            components=tuple(COMPONENTS),
            n_test=self._n_test,
        )
        with StoreWriter(folder, table) as writer:
            self._write_users(writer)
            n_train_requests = self._write_part(writer, self._train, 0)
            n_requests = self._write_part(writer, self._test, n_train_requests)

        def written(name: str, part: slice) -> Array:
            array: Array = np.load(folder / "impressions" / f"{name}.npy", mmap_mode="r")[part]
            return array

        for line in one_class(f"{path}: label", written("label", slice(self._n_train))):
            raise UserError(line)
        writer.finish(
            StoreDescription(
                schema=self._schema,
                n_users=self._users.rows,
                n_requests=n_requests,
                split={"kind": "user", "n_train": self._n_train},
                history_quantiles=self._lengths.quantiles(),
                source=source,
                utc_offset_seconds=0,
                truth=true_limits(written("probability", slice(self._n_train, None))),
            )
        )

    def _write_users(self, writer: StoreWriter) -> None:
        end = np.zeros(1, dtype=np.int64)
        writer.append("behaviours/offsets", end)
        for counts in self._users.pieces("n_events"):
            ends = end[-1] + np.cumsum(counts)
            writer.append("behaviours/offsets", ends)
            end = ends
        columns = {"time": "time"} | {f"feature.{f.name}": f.name for f in self._schema.behaviour}
        for name, column in columns.items():
            for values in self._events.pieces(column):
                writer.append(f"behaviours/{name}", values)
        for feature in self._schema.profile:
            for values in self._users.pieces(feature.name):
                writer.append(f"profile/feature.{feature.name}", values)

    @staticmethod
    def _write_part(writer: StoreWriter, part: TimeSpool, n_requests: int) -> int:
        """Write the impressions of a part; return the number of requests so far."""
        for rows in part.pieces():
            # rows of one second are in the same piece, so no request is cut
            begins = (np.diff(rows["user"]) != 0) | (np.diff(rows["time"]) != 0)
            request = n_requests + np.cumsum(np.append(0, begins))
            n_requests = int(request[-1]) + 1
            writer.append("impressions/request", request)
            for name in rows.dtype.names or ():
                group = "truth" if name.startswith("component.") else "impressions"
                writer.append(f"{group}/{name}", rows[name])
        return n_requests
