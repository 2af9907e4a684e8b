"""The result of one run: the content of `record.json`."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from scaling.study import RunConfig

__all__ = ["MODEL_FILE", "DayMetrics", "RunRecord", "TeacherRecord", "ordered_records"]


# the model, in the folder of a finished run (`scaling.training.saved_model`)
MODEL_FILE = "model.safetensors"


@dataclass(frozen=True)
class TeacherRecord:
    """The teacher of a complete distilled run.

    Attributes:
        n_params: non-embedding parameters.
        n_embedding_params: feature, hour and position tables.
        flops_per_sample: forward FLOPs of one sample.
        metrics: on the test part at the end, with the same names as the student's.
        n_samples: impressions that it was trained on before this run; 0: it started from scratch.
        n_new_samples: how many of these impressions the student does not see.
    """

    n_params: int
    n_embedding_params: int
    flops_per_sample: int
    metrics: dict[str, float]
    n_samples: int
    n_new_samples: int


@dataclass(frozen=True)
class DayMetrics:
    """The metrics of one day of the test part.

    Attributes:
        day: which 24 hours from the boundary of the split on, beginning with 1.
        metrics: with the names of the whole test part's; `n_rows` is the number of the day's impressions.
    """

    day: int
    metrics: dict[str, float]


@dataclass(frozen=True)
class RunRecord:
    """A complete run.

    Attributes:
        config: the resolved configuration.
        n_params: non-embedding parameters.
        n_embedding_params: feature, hour and position tables.
        flops_per_sample: forward FLOPs of one sample, two per multiply-add.
        flops: FLOPs of the whole training, 3 x forward x samples, and those of the teacher (only forward
            if it is frozen).
        metrics: metrics on the test part, by name (`scaling.metrics.evaluate`).
        train_loss: mean logloss over the epoch; each sample counts before the model is trained on it.
        train_seconds: wall-clock seconds of the training loop, over all attempts.
        samples_per_second: speed of the training loop.
        peak_memory_gib: highest resident memory of the last attempt's process.
        provenance: code, package versions, device, command line, start and end, and these facts for each
            attempt.
        teacher: the teacher of a distilled run; all other fields describe the student.
        by_day: the days of the test part that have impressions; empty if the log is not split by time, and in records
            of earlier versions.
        computed_flops_per_sample: forward FLOPs of one sample as the code computes them, by torch's counter: comparable between
            kinds of models. None in a distilled run and in records of earlier versions.
    """

    config: RunConfig
    n_params: int
    n_embedding_params: int
    flops_per_sample: int
    flops: int
    metrics: dict[str, float]
    train_loss: float
    train_seconds: float
    samples_per_second: float
    peak_memory_gib: float
    provenance: dict[str, Any]
    teacher: TeacherRecord | None = None
    by_day: tuple[DayMetrics, ...] = ()
    computed_flops_per_sample: int | None = None

    @property
    def signature(self) -> str:
        """The run's identity."""
        return self.config.signature


def ordered_records(records: Iterable[RunRecord]) -> list[RunRecord]:
    """Return the records sorted by model size, data size and seed; equal ones keep their order."""
    return sorted(
        records, key=lambda r: (r.n_params, r.flops_per_sample, r.config.n_samples, r.config.seed)
    )
