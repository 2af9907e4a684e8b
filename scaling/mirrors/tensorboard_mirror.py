"""A mirror of event files: a folder for each run, and in it a file for each call that had something new.

Each file appears whole. Its name holds its place in the order and the last step in it, so what is there is read from names.
"""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from scaling.atomic_files import atomic_path
from scaling.mirrors.run_facts import RunFacts
from scaling.mirrors.trackers import Mirrored
from scaling.records import CurvePoint

__all__ = ["connect"]


# TensorBoard reads the files of a folder by the order of their names, and none of another kind
_NAME = re.compile(r"events\.out\.tfevents\.(?P<number>\d{10})\.step(?P<step>\d+)(?P<end>\.end)?")
_OF_CURVE = ("loss", "learning_rate", "samples_per_second")


def connect(place: str) -> "TensorBoardMirror":
    """Open the folder `place`.

    Raises:
        ModuleNotFoundError: TensorBoard is not installed.
    """
    return TensorBoardMirror(Path(place))


class TensorBoardMirror:
    """Scalars by step, and for the tab of hyperparameters settings and final numbers."""

    takes_unfinished = True

    def __init__(self, root: Path) -> None:
        from tensorboard.compat.proto import event_pb2, summary_pb2
        from tensorboard.plugins.hparams import metadata, plugin_data_pb2
        from tensorboard.summary.writer.record_writer import RecordWriter

        self._root = root
        self._event, self._summary = event_pb2.Event, summary_pb2.Summary
        self._hparams, self._plugin = metadata, plugin_data_pb2
        self._writer = RecordWriter

    def _folder(self, run: RunFacts) -> Path:
        return self._root / f"{run.label.replace('/', '_')} {run.signature}"

    def _files(self, run: RunFacts) -> list[re.Match[str]]:
        """The names of the run's files, in their order."""
        names = (path.name for path in self._folder(run).glob("events.out.*"))
        return [found for name in sorted(names) if (found := _NAME.fullmatch(name))]

    def held(self, run: RunFacts) -> Mirrored | None:
        """Return what is there of a run; None if nothing is."""
        files = self._files(run)
        if not files:
            return None
        return Mirrored(int(files[-1]["step"]), files[-1]["end"] is not None)

    def add(self, run: RunFacts, points: Sequence[CurvePoint]) -> None:
        """Write one more event file.

        Raises:
            StorageError: it cannot be written.
        """
        files = self._files(run)
        number = int(files[-1]["number"]) + 1 if files else 1
        before = int(files[-1]["step"]) if files else 0
        step = points[-1].step if points else before
        end = ".end" if run.is_finished else ""
        path = self._folder(run) / f"events.out.tfevents.{number:010d}.step{step}{end}"
        with atomic_path(path) as temporary, temporary.open("wb") as file:
            writer = self._writer(file)
            for event in self._events(run, points, is_first=not files):
                writer.write(event.SerializeToString())

    def close(self) -> None:
        """Nothing is open."""

    def _events(
        self, run: RunFacts, points: Sequence[CurvePoint], *, is_first: bool
    ) -> Iterator[Any]:
        yield self._event(wall_time=run.started, file_version="brain.Event:2")
        if is_first:
            yield self._event(wall_time=run.started, summary=self._settings(run))
        for point in points:
            values = {f"train/{name}": getattr(point, name) for name in _OF_CURVE}
            yield self._event(
                wall_time=run.seconds_at(point), step=point.step, summary=self._scalars(values)
            )
        if run.is_finished:
            step = run.curve[-1].step if run.curve else 0
            scalars = self._scalars(run.results)
            yield self._event(wall_time=run.ended, step=step, summary=scalars)
            yield self._event(wall_time=run.ended, summary=self._success(run))

    def _scalars(self, values: Any) -> Any:
        pairs = [self._summary.Value(tag=tag, simple_value=v) for tag, v in values.items()]
        return self._summary(value=pairs)

    def _settings(self, run: RunFacts) -> Any:
        """The run's tags and settings, as the tab of hyperparameters reads them."""
        info = self._plugin.SessionStartInfo(group_name=run.signature, start_time_secs=run.started)
        for name, value in {**run.tags, **run.settings}.items():
            if isinstance(value, bool):
                info.hparams[name].bool_value = value
            elif isinstance(value, str):
                info.hparams[name].string_value = value
            else:
                info.hparams[name].number_value = value
        content = self._plugin.HParamsPluginData(session_start_info=info)
        return self._of_plugin(self._hparams.SESSION_START_INFO_TAG, content)

    def _success(self, run: RunFacts) -> Any:
        info = self._plugin.SessionEndInfo(status="STATUS_SUCCESS", end_time_secs=run.ended)
        content = self._plugin.HParamsPluginData(session_end_info=info)
        return self._of_plugin(self._hparams.SESSION_END_INFO_TAG, content)

    def _of_plugin(self, tag: str, content: Any) -> Any:
        metadata = self._hparams.create_summary_metadata(content)
        value = self._summary.Value(tag=tag, metadata=metadata, tensor=self._hparams.NULL_TENSOR)
        return self._summary(value=[value])
