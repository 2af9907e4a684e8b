"""One cell of a study, fully resolved, and its signature."""

import hashlib
import json
from dataclasses import asdict, dataclass, fields, replace
from functools import cache, cached_property
from typing import Any, Literal

from models.accounting import MemoryUse, ModelSize, fitted
from models.grades import Grade
from models.input_schema import InputSchema
from models.kinds import size_of
from models.model_options import EncoderOptions, ModelOptions, SuanOptions
from scaling.strict_values import require_positive
from scaling.study.batch_growth import BatchSchedule, count_steps
from scaling.study.recipe import RECIPE_1_EMBEDDING
from scaling.study.teacher_settings import Distillation

__all__ = ["RUN_SCHEMA_VERSION", "RunConfig"]


# Raise this when the same RunConfig would train to other numbers; old runs then no longer match.
RUN_SCHEMA_VERSION = 3


# Fields that are newer than the first runs, with the values those had; left out of their signatures.
_NEWER = {"batch_schedule": "fixed", "embedding_rate": None}


@dataclass(frozen=True)
class RunConfig:
    """One cell, fully resolved: everything that can change its numbers, plus labels.

    Attributes:
        grade_name: only a label; the model is defined by `grade`.
        n_samples: impressions in the training; each is seen once.
        batch_size: impressions per step; with `batch_schedule` growing, at most.
        learning_rate: peak rate of the dense parameters.
        embedding_rate: peak rate of the feature table; None: four times `learning_rate`, as in recipe 1.
        data_fingerprint: fingerprint of the event store.
        warmup_steps: steps in which the learning rate rises linearly to its peak.
        distill: the teacher; None: the model is trained without one.
    """

    grade_name: str
    grade: Grade
    model: ModelOptions
    n_samples: int
    seed: int
    batch_size: int
    learning_rate: float
    schedule: Literal["decay", "constant"]
    data_order: Literal["independent", "shared", "recent"]
    data_fingerprint: str
    warmup_steps: int
    packing: Literal["none", "request", "stretch"] = "none"
    precision: Literal["float32", "tf32", "bf16"] = "float32"
    distill: Distillation | None = None
    batch_schedule: BatchSchedule = "fixed"
    embedding_rate: float | None = None
    schema_version: int = RUN_SCHEMA_VERSION

    def __post_init__(self) -> None:
        """Check that all sizes and rates are positive."""
        require_positive(
            self, "n_samples", "batch_size", "learning_rate", "embedding_rate", "warmup_steps"
        )

    @cached_property
    def signature(self) -> str:
        """The run's identity: 16 hex digits of a hash of all fields except labels."""
        return _digest(self, "grade_name")

    @property
    def n_steps(self) -> int:
        """Steps of the epoch; a packed run may have fewer."""
        return count_steps(self.n_samples, self.batch_size, self.batch_schedule)

    @property
    def table_rate(self) -> float:
        """Peak learning rate of the feature table."""
        return self.embedding_rate or RECIPE_1_EMBEDDING * self.learning_rate

    @property
    def trajectory(self) -> str:
        """16 hex digits that are the same for runs that differ only in their data size.

        Such runs start bit-identical: the same samples in the same order, at the same learning rates. With
        the order `recent` none do, as a smaller data size begins later.
        """
        if self.data_order == "recent":
            return self.signature
        return _digest(self, "grade_name", "n_samples")

    @property
    def order(self) -> tuple[Any, ...]:
        """All that the order of the training impressions depends on; if it is equal, runs see the same ones first."""
        if self.data_order == "recent":
            return ("recent", self.n_samples)
        return (self.seed, "shared" if self.data_order == "shared" else asdict(self.grade))

    @property
    def label(self) -> str:
        """A short name for messages, e.g. `SUAN-2 D=16384 s0`."""
        teacher = "" if self.distill is None else f" after {self.distill.teacher_name}"
        kind = f"{self.model.kind} " if isinstance(self.model, EncoderOptions) else ""
        return f"{kind}{self.grade_name}{teacher} D={self.n_samples} s{self.seed}"

    @property
    def max_len(self) -> int:
        """How many of the latest behaviours a batch must hold: the larger L of the student and its teacher."""
        teacher = 0 if self.distill is None else self.distill.teacher.max_len
        return max(self.grade.max_len, teacher)

    @property
    def student_alone(self) -> "RunConfig":
        """The run of the same model without a teacher."""
        return self if self.distill is None else replace(self, distill=None)

    @property
    def teacher_alone(self) -> "RunConfig | None":
        """The run that trains this run's teacher alone, with the same settings; None without a teacher."""
        if self.distill is None:
            return None
        return replace(
            self,
            grade_name=self.distill.teacher_name,
            grade=self.distill.teacher,
            model=self.distill.model,
            learning_rate=self.distill.learning_rate or self.learning_rate,
            distill=None,
        )

    def held_size(self, schema: InputSchema) -> ModelSize:
        """Return the size of all that the training holds: the model and its teacher; a shared table counts once."""
        own = size_of(self.grade, self.model, schema)
        if self.distill is None:
            return own
        teacher = size_of(self.distill.teacher, self.distill.model, schema)
        table = 0 if self.distill.share_embeddings else teacher.n_embedding_params
        return replace(
            own,
            n_params=own.n_params + teacher.n_params,
            n_embedding_params=own.n_embedding_params + table,
            activation_bytes=own.activation_bytes + teacher.activation_bytes,
        )

    def memory_use(self, schema: InputSchema, free_bytes: float) -> MemoryUse:
        """Return how a batch fits into the memory of a GPU that parameters, gradients and moments leave free."""
        models = [(self.grade, self.model)]
        if self.distill is not None:
            models.append((self.distill.teacher, self.distill.model))
        return fitted(
            free_bytes,
            self.held_size(schema).activation_bytes,
            self.max_len,
            min(grade.n_layers for grade, _ in models),
            can_recompute=all(isinstance(model, SuanOptions) for _, model in models),
        )


def _digest(config: RunConfig, *left_out: str) -> str:
    # the documents of grades and options are cached: there are few of them, but many cells
    content = {
        f.name: getattr(config, f.name)
        for f in fields(config)
        if f.name not in ("grade", "model", "distill", *left_out)
    }
    content |= {"grade": _document(config.grade), "model": _options(config.model)}
    if config.distill is not None:
        content["distill"] = {
            **_document(config.distill),
            "teacher_name": None,
            "model": _options(config.distill.model),
        }
    for name, default in _NEWER.items():
        if content[name] == default:
            del content[name]
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@cache
def _document(part: Grade | ModelOptions | Distillation) -> dict[str, Any]:
    return asdict(part)


@cache
def _options(options: ModelOptions) -> dict[str, Any]:
    if isinstance(options, EncoderOptions):
        return _document(options)
    light = () if options.kind == "lightsuan" else ("kind", "window", "dilation")
    # leave out what is newer than the first SUAN runs, so that these keep their signatures
    return {key: value for key, value in _document(options).items() if key not in light}
