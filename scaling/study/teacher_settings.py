"""A teacher beside the student: what a study says of it, and what a run is told. Free of torch."""

import math
from dataclasses import dataclass
from typing import Literal

from models.accounting import model_size
from models.grades import Grade
from models.input_schema import InputSchema
from models.model_options import SuanOptions

__all__ = ["NO_TEACHER", "DistillConfig", "Distillation", "teacher_flops"]


NO_TEACHER = "none"

_MOST_WEIGHT, _MOST_TEMPERATURE = 1e6, 1e3


@dataclass(frozen=True)
class DistillConfig:
    """`[distill]`: a student of the grid learns beside a teacher (SUAN paper, online distillation).

    Attributes:
        teacher: name of a grade, a SUAN unless it begins with Light; "none": nobody.
        student: the grades of the grid that are distilled, the others are trained alone; None: all.
        weight: lambda, how much the teacher's predictions count beside the clicks.
        temperature: t, which divides the logits that are compared.
        share_embeddings: whether both read one feature table, which needs the same d.
        teacher_init: folder of the finished run that the teacher begins as, or of a study's runs: of these
            the one of the teacher's grade and options with the student's seed. Empty: from scratch.
        teacher_samples: of a study's runs, that of the `largest` data size, of the `same` as the
            student's, or of so many impressions.
        freeze_teacher: whether a teacher that was trained before stays as it is.
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
        """Refuse what is no weight or temperature."""
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
        teacher_name: a label.
        learning_rate: peak rate of the teacher's dense parameters; None where it is frozen.
        teacher_init: signature of the run that it begins as; None: from scratch.
    """

    teacher_name: str
    teacher: Grade
    model: SuanOptions
    learning_rate: float | None
    weight: float
    temperature: float
    share_embeddings: bool = False
    teacher_init: str | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot train."""
        _check_term(self.weight, self.temperature)
        if self.learning_rate is not None and not 0 < self.learning_rate < math.inf:
            raise ValueError(f"learning_rate is {self.learning_rate}, expected a positive number")

    @property
    def is_frozen(self) -> bool:
        """Whether the teacher stays as it begins."""
        return self.learning_rate is None

    @property
    def way(self) -> str:
        """How the teacher comes by what it knows: `cold`, `warm` (trained before, and goes on) or `frozen`."""
        if self.teacher_init is None:
            return "cold"
        return "frozen" if self.is_frozen else "warm"


def teacher_flops(settings: Distillation, n_samples: int, schema: InputSchema) -> int:
    """FLOPs of the teacher's part of a run over `n_samples` impressions; a frozen one goes forward only."""
    size = model_size(settings.teacher, settings.model, schema)
    return size.training_flops(n_samples) // (3 if settings.is_frozen else 1)


def _check_term(weight: float, temperature: float) -> None:
    # beyond these a softened logit or its square is no float32 any more
    if not 0 <= weight <= _MOST_WEIGHT:
        raise ValueError(f"weight is {weight:g}, expected a number from 0 to {_MOST_WEIGHT:g}")
    if not 1 / _MOST_TEMPERATURE <= temperature <= _MOST_TEMPERATURE:
        raise ValueError(
            f"temperature is {temperature:g}, expected a number from {1 / _MOST_TEMPERATURE:g} to {_MOST_TEMPERATURE:g}"
        )
