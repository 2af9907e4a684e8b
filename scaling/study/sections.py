"""What to run: a study (`scaling.study.study_file` reads it), and each cell of its grid, a `RunConfig`.

Free of torch; knows nothing of folders of runs or of clusters.
"""

from dataclasses import dataclass, field, replace
from itertools import product
from typing import Any, Literal

from models.grades import GRADES, Grade
from models.model_options import SuanOptions
from scaling.errors import UserError, nearest
from scaling.strict_values import require_positive
from scaling.study.slurm_settings import SlurmConfig
from scaling.study.teacher_settings import DistillConfig

__all__ = ["DataConfig", "GridConfig", "RunOptions", "StudyConfig", "TrainConfig"]


# before a grade's name: a LightSUAN of its sizes
_LIGHT = "Light"


@dataclass(frozen=True)
class StudyHeader:
    """`[study]`: the name is the folder under the runs folder."""

    name: str
    description: str = ""


@dataclass(frozen=True)
class DataConfig:
    """`[data]`: the event store's folder, relative to the working directory.

    `generate` (keys of `scaling.synthetic.logs.SyntheticConfig`) makes the store when it is missing.
    """

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

    grade: tuple[str, ...]
    n_samples: tuple[int | Literal["all"], ...]
    n_seeds: int | tuple[int, ...] = 1
    axes: dict[str, tuple[Any, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class TrainConfig:
    """`[train]`: None follows the recipe (`scaling.study.recipe`).

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
        require_positive(self, "batch_size", "learning_rate", "recipe_n_samples")


@dataclass(frozen=True)
class RunOptions:
    """`[run]`: how a cell survives and what it leaves; never part of a run's identity.

    Attributes:
        checkpoint_seconds: between two checkpoints; more where writing one takes over 2 % of that.
        stale_seconds: a process on another host that has been silent for so long counts as gone.
        keep_model: whether a finished run keeps its model.
        compile: whether a GPU runs the blocks compiled, as CUDA graphs; on a CPU there is nothing to gain.
    """

    checkpoint_seconds: float = 60.0
    stale_seconds: float = 120.0
    keep_model: bool = True
    compile: bool = False

    def __post_init__(self) -> None:
        """Refuse times that are none."""
        require_positive(self, "checkpoint_seconds", "stale_seconds")


@dataclass(frozen=True)
class StudyConfig:
    """A whole study file, checked."""

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

    def gpus(self, grade_name: str) -> int:
        """The GPUs of a process that trains this grade; 0: it trains on a CPU core."""
        return self.slurm.of_grade(grade_name).gpus

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
