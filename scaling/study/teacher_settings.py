"""The teacher of a distilled student: `[distill]` of a study, and its resolved form in a run. Needs no torch."""

import math
from dataclasses import dataclass
from typing import Literal

from models.grades import Grade
from models.input_schema import InputSchema
from models.kinds import size_of
from models.model_options import ModelOptions

__all__ = ["NO_TEACHER", "DistillConfig", "Distillation", "teacher_flops"]


NO_TEACHER = "none"

_MOST_WEIGHT, _MOST_TEMPERATURE = 1e6, 1e3


@dataclass(frozen=True)
class DistillConfig:
    """`[distill]`: students of the grid are trained together with a teacher (SUAN paper, online distillation).

    Attributes:
        teacher: name of a grade, a SUAN unless it begins with Light; "none": no teacher.
        student: grades of the grid that are distilled, the others are trained alone. Default: all.
        weight: lambda, the weight of the distillation term; the clicks have weight 1.
        temperature: t, by which the compared logits are divided.
        share_embeddings: whether both models use the same feature table, which needs the same d.
        teacher_init: folder of the finished run from which the teacher starts, or of a study's runs, among
            which the run with the teacher's grade and options and the student's seed is taken. Empty: the
            teacher starts from scratch.
        teacher_samples: which data size to take from a study's runs: the `largest`, the `same` as the
            student's, or a number of impressions.
        freeze_teacher: whether a teacher that starts from a finished run is not trained any further.
    """

    teacher: str = NO_TEACHER
    student: str | tuple[str, ...] | None = None
    weight: float = 1.0
    temperature: float = 1.0
    share_embeddings: bool = False
    teacher_init: str = ""
    teacher_samples: int | Literal["largest", "same"] = "largest"
    freeze_teacher: bool = False

    def __post_init__(self) -> None:
        """Check the weight, the temperature, the number of samples and the students."""
        _check_term(self.weight, self.temperature)
        if isinstance(self.teacher_samples, int) and self.teacher_samples < 1:
            raise ValueError(
                f"teacher_samples is {self.teacher_samples}, expected a positive number of impressions"
            )
        if self.students == ():
            raise ValueError("student is empty, expected a grade or several")

    @property
    def students(self) -> tuple[str, ...] | None:
        """The grades that are distilled; None: all."""
        return (self.student,) if isinstance(self.student, str) else self.student


@dataclass(frozen=True)
class Distillation:
    """A run's teacher, fully resolved.

    Attributes:
        teacher_name: only a label.
        learning_rate: peak rate of the teacher's dense parameters; None: the teacher is frozen.
        teacher_init: signature of the run from which the teacher starts; None: it starts from scratch.
    """

    teacher_name: str
    teacher: Grade
    model: ModelOptions
    learning_rate: float | None
    weight: float
    temperature: float
    share_embeddings: bool = False
    teacher_init: str | None = None

    def __post_init__(self) -> None:
        """Check the weight, the temperature and the learning rate."""
        _check_term(self.weight, self.temperature)
        if self.learning_rate is not None and not 0 < self.learning_rate < math.inf:
            raise ValueError(f"learning_rate is {self.learning_rate}, expected a positive number")

    @property
    def is_frozen(self) -> bool:
        """Whether the teacher is not trained in this run."""
        return self.learning_rate is None

    @property
    def way(self) -> str:
        """How the teacher is trained: `cold` (from scratch), `warm` (from a finished run) or `frozen`."""
        if self.teacher_init is None:
            return "cold"
        return "frozen" if self.is_frozen else "warm"


def teacher_flops(settings: Distillation, n_samples: int, schema: InputSchema) -> int:
    """Return the teacher's FLOPs in a run over `n_samples` impressions; a frozen one has no backward pass."""
    size = size_of(settings.teacher, settings.model, schema)
    return size.training_flops(n_samples) // (3 if settings.is_frozen else 1)


def _check_term(weight: float, temperature: float) -> None:
    # outside these limits a softened logit or its square overflows float32
    if not 0 <= weight <= _MOST_WEIGHT:
        raise ValueError(f"weight is {weight:g}, expected a number from 0 to {_MOST_WEIGHT:g}")
    if not 1 / _MOST_TEMPERATURE <= temperature <= _MOST_TEMPERATURE:
        raise ValueError(
            f"temperature is {temperature:g}, expected a number from {1 / _MOST_TEMPERATURE:g} to {_MOST_TEMPERATURE:g}"
        )
