"""A mirror in MLflow: an experiment for each study, a run for each run; by default in an SQLite file.

A run is found by its tag `signature`; its curve's last step is asked of MLflow, so nothing is logged twice.
"""

import logging
import os
import re
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from scaling.errors import UserError
from scaling.mirrors.run_facts import RunFacts
from scaling.mirrors.trackers import Mirrored
from scaling.records import CurvePoint

__all__ = ["connect"]


_OF_CURVE = ("learning_rate", "samples_per_second", "loss")
# MLflow's limits of one request
_MOST_METRICS, _MOST_PARAMS = 1000, 100
_MILLISECONDS = 1000
_SQLITE = "sqlite:///"
# In messages of requests and urllib3, which MLflow passes on.
_NO_ANSWER = "Max retries exceeded"
_SYSTEM_ERROR = re.compile(r"\[Errno -?\d+\] ([^'\")]+)")


def connect(place: str) -> "MlflowMirror":
    """Open an SQLite file, or what a tracking URI leads to.

    Raises:
        ModuleNotFoundError: MLflow is not installed, or what it needs for SQLite.
        UserError: it cannot be opened.
    """
    # unless told not to, MLflow reports its use to its makers
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    # a server that is down is told in half a minute, not in several
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3")
    place = place.removeprefix(_SQLITE)
    if "://" in place:
        return MlflowMirror(place, None)
    path = Path(place).resolve()
    return MlflowMirror(f"{_SQLITE}{path}", path)


def _check_file(path: Path) -> None:
    """Check that SQLite can open a file, as MLflow would try for minutes.

    Raises:
        UserError: it cannot.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("PRAGMA schema_version")
    except (OSError, sqlite3.Error) as error:
        why = error.strerror if isinstance(error, OSError) else str(error)
        raise UserError(f"{path}: cannot be opened as an SQLite file: {why}") from error


def _refused(uri: str, error: Exception) -> UserError:
    """The error of a call that failed, in one short line if no server answers."""
    text = str(error)
    if _NO_ANSWER not in text:
        return UserError(f"{uri}: {text}")
    cause = _SYSTEM_ERROR.search(text)
    why = f" ({cause[1]})" if cause else ""
    return UserError(
        f"{uri}: no MLflow server answers{why}; start it, or name another place with --into"
    )


class MlflowMirror:
    """Settings as params, the curve and the final numbers as metrics."""

    takes_unfinished = True

    def __init__(self, uri: str, file: Path | None) -> None:
        from mlflow import MlflowException
        from mlflow.entities import Metric, Param, RunTag
        from mlflow.tracking import MlflowClient

        if file is not None:  # not before it is known that MLflow is there
            import sqlalchemy  # noqa: F401 - without it, MLflow's own message is of many lines

            _check_file(file)
        # after the import, which sets it: the migrations of a new database are no news
        logging.getLogger("mlflow").setLevel(logging.WARNING)
        # each retry would be a line of its own; what comes of them is told
        logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)
        self._metric, self._param, self._tag = Metric, Param, RunTag
        self._error: type[Exception] = MlflowException
        self._artifacts = None if file is None else file.with_name("mlflow-artifacts").as_uri()
        self._uri = uri
        self._experiments: dict[str, str] = {}
        self._runs: dict[str, Any] = {}
        try:
            self._client: Any = MlflowClient(tracking_uri=uri)
        except MlflowException as error:
            raise _refused(uri, error) from error

    def held(self, run: RunFacts) -> Mirrored | None:
        """Return what is there of a run; None if nothing is."""
        try:
            self._experiment(run.study)
            found = self._runs.get(run.signature)
            if found is None:
                return None
            if found.info.status == "FINISHED":
                return Mirrored(is_finished=True)
            history = self._client.get_metric_history(found.info.run_id, "train/loss")
            return Mirrored(max((metric.step for metric in history), default=0))
        except self._error as error:
            raise _refused(self._uri, error) from error

    def add(self, run: RunFacts, points: Sequence[CurvePoint]) -> None:
        """Create the run if it is not there, and log what is new.

        Raises:
            UserError: MLflow refuses it.
        """
        try:
            self._add(run, points)
        except self._error as error:
            raise _refused(self._uri, error) from error

    def close(self) -> None:
        """Nothing stays open."""

    def _experiment(self, study: str) -> str:
        """The id of the study's experiment, whose runs are read once."""
        if study not in self._experiments:
            known = self._client.get_experiment_by_name(study)
            identity = known.experiment_id if known else self._create(study)
            self._experiments[study] = identity
            token = None
            while True:
                page = self._client.search_runs([identity], page_token=token)
                self._runs |= {
                    r.data.tags["signature"]: r for r in page if "signature" in r.data.tags
                }
                token = page.token
                if not token:
                    break
        return self._experiments[study]

    def _create(self, study: str) -> str:
        return str(self._client.create_experiment(study, artifact_location=self._artifacts))

    def _add(self, run: RunFacts, points: Sequence[CurvePoint]) -> None:
        experiment = self._experiment(run.study)
        found = self._runs.get(run.signature)
        if found is None:
            started = int(run.started * _MILLISECONDS)
            found = self._client.create_run(experiment, started, run.tags, run.label)
            self._runs[run.signature] = found
        identity = found.info.run_id
        params = [self._param(name, str(value)) for name, value in run.settings.items()]
        for first in range(0, len(params), _MOST_PARAMS):
            self._client.log_batch(identity, params=params[first : first + _MOST_PARAMS])
        metrics = [
            # the loss last: where a call was cut off, its step says that all of the point is there
            self._metric(f"train/{name}", getattr(point, name), self._time(run, point), point.step)
            for point in points
            for name in _OF_CURVE
        ]
        if run.ended is not None:
            end, step = int(run.ended * _MILLISECONDS), run.curve[-1].step if run.curve else 0
            metrics += [self._metric(name, v, end, step) for name, v in run.results.items()]
        for first in range(0, len(metrics), _MOST_METRICS):
            self._client.log_batch(identity, metrics=metrics[first : first + _MOST_METRICS])
        if run.ended is not None:
            self._client.set_terminated(identity, "FINISHED", end)
            self._runs[run.signature] = self._client.get_run(identity)

    def _time(self, run: RunFacts, point: CurvePoint) -> int:
        return int(run.seconds_at(point) * _MILLISECONDS)
