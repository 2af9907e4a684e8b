"""What to run: a study (`scaling.study_file` reads it), and each cell of its grid, a `RunConfig`.

Free of torch; knows nothing of folders of runs or of clusters.
"""

import hashlib
import json
import math
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cache, cached_property
from itertools import product
from typing import Any, ClassVar, Literal

from pydantic import ConfigDict

from models.config import SuanOptions
from models.grades import GRADES, Grade
from scaling.distillation import Distillation, DistillConfig
from scaling.errors import UserError, nearest

__all__ = [
    "RUN_SCHEMA_VERSION",
    "DataConfig",
    "GridConfig",
    "RunConfig",
    "RunOptions",
    "SlurmConfig",
    "SlurmGrade",
    "StudyConfig",
    "TrainConfig",
]

# Raised whenever the same RunConfig would train to other numbers: old runs then no longer match.
RUN_SCHEMA_VERSION = 3

_STRICT = ConfigDict(extra="forbid", strict=True, str_strip_whitespace=False)

_OWN_SBATCH_OPTIONS = (
    *("array", "job-name", "output", "error", "open-mode", "requeue", "no-requeue", "signal"),
    *("partition", "time", "mem", "cpus-per-task", "gpus-per-node", "export"),
)

# before a grade's name: a LightSUAN of its sizes
_LIGHT = "Light"


@dataclass(frozen=True)
class StudyHeader:
    """`[study]`: the name is the folder under the runs folder."""

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT

    name: str
    description: str = ""


@dataclass(frozen=True)
class DataConfig:
    """`[data]`: the event store's folder, relative to the working directory.

    `generate` (keys of `scaling.synthetic.SyntheticConfig`) makes the store when it is missing.
    """

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT

    path: str
    generate: dict[str, Any] | None = None


@dataclass(frozen=True)
class GridConfig:
    """`[grid]`: grades x data sizes x seeds, and any further option of [model], [train] or [distill] as an axis.

    Attributes:
        grade: names of the ladder or of `[grades]`; LightSUAN-2 is a LightSUAN of the sizes of SUAN-2.
            By default the students of `[distill]`.
        n_samples: data sizes in impressions; "all" is the whole training part.
        n_seeds: seeds per cell; one number, or one for each data size.
        axes: further axes, e.g. `"model.norm" = ["rms", "layer"]`.
    """

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT

    grade: tuple[str, ...]
    n_samples: tuple[int | Literal["all"], ...]
    n_seeds: int | tuple[int, ...] = 1
    axes: dict[str, tuple[Any, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class TrainConfig:
    """`[train]`: None follows the recipe (`scaling.recipe`).

    Attributes:
        batch_size: impressions per step.
        learning_rate: peak rate of the dense parameters; the embeddings' is a fixed multiple.
        recipe_n_samples: the data size whose batch, rate and warm-up the recipe gives to all cells; by
            default each has its own, or where a training serves many sizes that of their middle.
        schedule: `decay` cools down linearly over the second half; `constant` stays at the peak.
        data_order: `independent` draws the nested order anew for each (grade, seed); `shared` gives
            all grades of a seed the same order (paired comparisons; see docs/methods.md).
        packing: `request` trains all impressions of a request in one pass over their history,
            `stretch` all those of a window of a user's log; never mix the three in one fit.
        precision: of products; `tf32` differs from `float32` on a GPU only.
        share_prefix: train each grade and seed once for all data sizes, whose batch, rate and warm-up
            are then the same (docs/methods.md, "One training for many data sizes").
    """

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT

    batch_size: int | None = None
    learning_rate: float | None = None
    recipe_n_samples: int | None = None
    schedule: Literal["decay", "constant"] = "decay"
    data_order: Literal["independent", "shared"] = "independent"
    packing: Literal["none", "request", "stretch"] = "none"
    precision: Literal["float32", "tf32", "bf16"] = "float32"
    share_prefix: bool = False

    def __post_init__(self) -> None:
        """Refuse numbers that cannot train."""
        _require_positive(self, "batch_size", "learning_rate", "recipe_n_samples")


@dataclass(frozen=True)
class RunOptions:
    """`[run]`: how a cell survives and what it leaves; never part of a run's identity.

    Attributes:
        checkpoint_seconds: between two checkpoints; more where writing one takes over 2 % of that.
        stale_seconds: a process on another host that has been silent for so long counts as gone.
        keep_model: whether a finished run keeps its model.
        compile: whether a GPU runs the blocks compiled, as CUDA graphs; on a CPU there is nothing to gain.
    """

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT

    checkpoint_seconds: float = 60.0
    stale_seconds: float = 120.0
    keep_model: bool = True
    compile: bool = False

    def __post_init__(self) -> None:
        """Refuse times that are none."""
        _require_positive(self, "checkpoint_seconds", "stale_seconds")


@dataclass(frozen=True)
class SlurmGrade:
    """`[slurm.grades.NAME]`: where this grade's jobs differ from `[slurm]`."""

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT

    partition: str | None = None
    time_minutes: int | None = None
    memory_gib: float | None = None
    cpus: int | None = None
    gpus: int | None = None
    cells_per_job: int | None = None

    def __post_init__(self) -> None:
        """Refuse what no cluster can grant."""
        _require_positive(self, "time_minutes", "memory_gib", "cpus", "cells_per_job")
        if self.gpus is not None and self.gpus < 0:
            raise ValueError(f"gpus is {self.gpus}, expected 0 or more")


@dataclass(frozen=True)
class SlurmConfig:
    """`[slurm]`: how cells are run on a cluster; never part of a run's identity.

    Attributes:
        time_minutes: a job's time limit; None follows the estimate.
        memory_gib: a job's memory; None follows the estimate.
        cpus: cores of a job.
        gpus: GPUs of a job.
        max_parallel: jobs at once, of the whole sweep.
        cells_per_job: None packs short cells after the estimate.
        setup: shell lines before the worker starts, e.g. `module load cuda`.
        options: further options of sbatch, e.g. `account = "ours"`.
        grades: what a grade needs otherwise.
    """

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT

    partition: str | None = None
    time_minutes: int | None = None
    memory_gib: float | None = None
    cpus: int = 1
    gpus: int = 0
    max_parallel: int = 16
    cells_per_job: int | None = None
    setup: tuple[str, ...] = ()
    options: dict[str, str | int | bool] = field(default_factory=dict)
    grades: dict[str, SlurmGrade] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse what no cluster can grant, and options that the dispatch sets itself."""
        _require_positive(self, "time_minutes", "memory_gib", "cpus", "cells_per_job")
        _require_positive(self, "max_parallel")
        if self.gpus < 0:
            raise ValueError(f"gpus is {self.gpus}, expected 0 or more")
        for name in self.options:
            if name.replace("_", "-") in _OWN_SBATCH_OPTIONS:
                raise ValueError(
                    f"options.{name}: is set by scaling itself, or has a key of its own"
                )

    def of_grade(self, name: str) -> "SlurmConfig":
        """These settings with the grade's own in their place."""
        own = self.grades.get(name)
        if own is None:
            return self
        return replace(self, **{k: v for k, v in asdict(own).items() if v is not None})


@dataclass(frozen=True)
class StudyConfig:
    """A whole study file, checked."""

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT

    study: StudyHeader
    data: DataConfig
    grid: GridConfig
    model: SuanOptions = field(default_factory=SuanOptions)
    train: TrainConfig = field(default_factory=TrainConfig)
    distill: DistillConfig = field(default_factory=DistillConfig)
    grades: dict[str, Grade] = field(default_factory=dict)
    slurm: SlurmConfig = field(default_factory=SlurmConfig)
    run: RunOptions = field(default_factory=RunOptions)

    @property
    def name(self) -> str:
        """The study's name."""
        return self.study.name

    def grade(self, name: str, key: str = "grid.grade") -> Grade:
        """Return a grade of this study or of the ladder; `key` is told where there is none.

        Raises:
            UserError: no such grade.
        """
        known = {**GRADES, **self.grades}
        base = name.removeprefix(_LIGHT) if self.is_light(name) else name
        if base not in known:
            names = [f"{_LIGHT}{one}" for one in GRADES] if self.is_light(name) else known
            raise UserError(f"{key}: there is no grade {name}{nearest(name, names)}")
        return known[base]

    def is_light(self, name: str) -> bool:
        """Whether a grade's name asks for a LightSUAN."""
        return name.startswith(_LIGHT) and name not in self.grades

    def options(self, name: str, options: SuanOptions) -> SuanOptions:
        """The options of a grade: those given, but for the kind that its name asks for."""
        if self.is_light(name):
            return replace(options, kind="lightsuan")
        if options.kind == "suan":
            return replace(options, window=None, dilation=None)
        return options

    @property
    def teachers(self) -> tuple[DistillConfig, ...]:
        """Every setting of `[distill]` that the grid asks for."""
        axes = {
            a.partition(".")[2]: v for a, v in self.grid.axes.items() if a.startswith("distill.")
        }
        return tuple(
            replace(self.distill, **dict(zip(axes, values, strict=True)))
            for values in product(*axes.values())
        )


@dataclass(frozen=True)
class RunConfig:
    """One cell, fully resolved: everything that can change its numbers, and nothing else but labels.

    Attributes:
        grade_name: a label; the sizes in `grade` are what counts.
        n_samples: impressions trained on, each once.
        learning_rate: peak rate of the dense parameters.
        data_fingerprint: of the event store.
        warmup_steps: over which the rate rises linearly to its peak.
        distill: the teacher; None: the model is trained alone.
    """

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT

    grade_name: str
    grade: Grade
    model: SuanOptions
    n_samples: int
    seed: int
    batch_size: int
    learning_rate: float
    schedule: Literal["decay", "constant"]
    data_order: Literal["independent", "shared"]
    data_fingerprint: str
    warmup_steps: int
    packing: Literal["none", "request", "stretch"] = "none"
    precision: Literal["float32", "tf32", "bf16"] = "float32"
    distill: Distillation | None = None
    schema_version: int = RUN_SCHEMA_VERSION

    def __post_init__(self) -> None:
        """Refuse numbers that cannot train."""
        _require_positive(self, "n_samples", "batch_size", "learning_rate", "warmup_steps")

    @cached_property
    def signature(self) -> str:
        """16 hex digits of a hash of the whole content, labels apart: the run's identity."""
        return _digest(self, "grade_name")

    @property
    def trajectory(self) -> str:
        """16 hex digits that runs share if they differ in their data size alone.

        Such runs begin alike, to the bit: with the same samples in the same order, at the same rates.
        """
        return _digest(self, "grade_name", "n_samples")

    @property
    def order(self) -> tuple[Any, ...]:
        """What the order of the training impressions depends on: runs alike in it take the same ones first."""
        return (self.seed, "shared" if self.data_order == "shared" else asdict(self.grade))

    @property
    def label(self) -> str:
        """A short name for people, e.g. `SUAN-2 D=16384 s0`."""
        teacher = "" if self.distill is None else f" after {self.distill.teacher_name}"
        return f"{self.grade_name}{teacher} D={self.n_samples} s{self.seed}"

    @property
    def max_len(self) -> int:
        """The latest behaviours that a batch must hold: what the student or its teacher reads."""
        teacher = 0 if self.distill is None else self.distill.teacher.max_len
        return max(self.grade.max_len, teacher)

    @property
    def student_alone(self) -> "RunConfig":
        """The run of the same model without a teacher."""
        return self if self.distill is None else replace(self, distill=None)

    @property
    def teacher_alone(self) -> "RunConfig | None":
        """The run that trains the teacher as this one does, but by itself; None without a teacher."""
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


def _digest(config: RunConfig, *left_out: str) -> str:
    # grades and options are few, cells are many
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
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@cache
def _document(part: Grade | SuanOptions | Distillation) -> dict[str, Any]:
    return asdict(part)


@cache
def _options(options: SuanOptions) -> dict[str, Any]:
    light = () if options.kind == "lightsuan" else ("kind", "window", "dilation")
    # a SUAN is the same run as before there were other kinds
    return {key: value for key, value in _document(options).items() if key not in light}


def _require_positive(config: object, *names: str) -> None:
    for name in names:
        value = getattr(config, name)
        if value is not None and not 0 < value < math.inf:
            raise ValueError(f"{name} is {value}, expected a positive number")
