"""The result of one run: the content of `record.json`."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Annotated, Any

from pydantic import Field, FiniteFloat

from scaling.study import RunConfig

__all__ = [
    "CURVE_FILE",
    "MODEL_FILE",
    "DayMetrics",
    "RunRecord",
    "TeacherRecord",
    "ordered_records",
]


# the model, in the folder of a finished run (`scaling.training.saved_model`)
MODEL_FILE = "model.safetensors"
# its training curve (`scaling.records.training_curve`)
CURVE_FILE = "metrics.jsonl"

# A number that tables can hold as a float.
_Count = Annotated[int, Field(ge=0, lt=10**30)]
_Amount = Annotated[float, Field(ge=0, allow_inf_nan=False)]


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

    n_params: _Count
    n_embedding_params: _Count
    flops_per_sample: _Count
    metrics: dict[str, FiniteFloat]
    n_samples: _Count
    n_new_samples: _Count


@dataclass(frozen=True)
class DayMetrics:
    """The metrics of one day of the test part.

    Attributes:
        day: which 24 hours from the boundary of the split on, beginning with 1.
        metrics: with the names of the whole test part's; `n_rows` is the number of the day's impressions.
    """

    day: int
    metrics: dict[str, FiniteFloat]


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
        files: SHA-256 of the files of the run that were written before the record, by name; empty in records of earlier versions.
    """

    config: RunConfig
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
    teacher: TeacherRecord | None = None
    by_day: tuple[DayMetrics, ...] = ()
    computed_flops_per_sample: _Count | None = None
    files: dict[str, str] = field(default_factory=dict)

    @property
    def signature(self) -> str:
        """The run's identity."""
        return self.config.signature


def ordered_records(records: Iterable[RunRecord]) -> list[RunRecord]:
    """Return the records sorted by model size, data size and seed; equal ones keep their order."""
    return sorted(
        records, key=lambda r: (r.n_params, r.flops_per_sample, r.config.n_samples, r.config.seed)
    )
