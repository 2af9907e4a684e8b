"""What came out of one run: the content of `record.json`."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from scaling.study import RunConfig

__all__ = ["MODEL_FILE", "RunRecord", "TeacherRecord", "ordered_records"]


# in a finished run's folder (`scaling.training.saved_model`)
MODEL_FILE = "model.safetensors"


@dataclass(frozen=True)
class TeacherRecord:
    """The teacher of a complete distilled run.

    Attributes:
        n_params: non-embedding parameters.
        n_embedding_params: feature, hour and position tables.
        flops_per_sample: forward FLOPs of one sample.
        metrics: of the test part at the end, as the student's.
        n_samples: impressions that it was trained on before this run began; 0 from scratch.
        n_new_samples: how many of these the student does not see.
    """

    n_params: int
    n_embedding_params: int
    flops_per_sample: int
    metrics: dict[str, float]
    n_samples: int
    n_new_samples: int


@dataclass(frozen=True)
class RunRecord:
    """A complete run.

    Attributes:
        config: the resolved configuration.
        n_params: non-embedding parameters.
        n_embedding_params: feature, hour and position tables.
        flops_per_sample: forward FLOPs of one sample, two per multiply-add.
        flops: of the whole training, 3 x forward x samples; the teacher's, too (forward only if frozen).
        metrics: of the test part, by name (`scaling.metrics.evaluate`).
        train_loss: mean logloss over the one epoch, each sample before it was trained on.
        train_seconds: wall-clock seconds of the training loop, over all attempts.
        samples_per_second: of the training loop.
        peak_memory_gib: resident memory of the last attempt's process at its highest.
        provenance: code, package versions, device, command line, start and end, and what of these
            each attempt had.
        teacher: of a distilled run; what else is told is the student's.
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

    @property
    def signature(self) -> str:
        """The run's identity."""
        return self.config.signature


def ordered_records(records: Iterable[RunRecord]) -> list[RunRecord]:
    """Records by size, data and seed; those alike in all keep their order."""
    return sorted(
        records, key=lambda r: (r.n_params, r.flops_per_sample, r.config.n_samples, r.config.seed)
    )
