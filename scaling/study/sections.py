"""The sections of a study file as frozen values; `scaling.study.study_file` reads and checks the file."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, make_dataclass, replace
from functools import cache
from itertools import product
from typing import Any, Literal

from models.grades import GRADES, Grade
from models.kinds import ModelError, options_of, options_type
from models.model_options import ModelOptions, SuanOptions
from scaling.errors import SettingError, nearest
from scaling.strict_values import from_document, require_positive
from scaling.study.batch_growth import BatchSchedule
from scaling.study.goal_settings import GoalConfig
from scaling.study.rate_law import RateLaw
from scaling.study.recipe import RecipeVersion
from scaling.study.slurm_settings import SlurmConfig
from scaling.study.teacher_settings import DistillConfig

__all__ = ["DataConfig", "GridConfig", "ModelConfig", "RunOptions", "StudyConfig", "TrainConfig"]


# this before the name of a grade means a LightSUAN with the sizes of that grade
_LIGHT = "Light"


@dataclass(frozen=True)
class StudyHeader:
    """`[study]`: what the study is called.

    Attributes:
        name: also the name of the study's folder under the runs folder; letters, digits, `.`, `_` and `-`.
        description: title of the report.
    """

    name: str
    description: str = ""


@dataclass(frozen=True)
class DataConfig:
    """`[data]`: the event store.

    Attributes:
        path: folder of the store, relative to the working directory.
        generate: settings of a generated log (`scaling.synthetic.logs.SyntheticConfig`); a store that is missing is made from them. Default:
            the store must be there.
    """

    path: str
    generate: dict[str, Any] | None = None


@dataclass(frozen=True)
class GridConfig:
    """`[grid]`: grades x data sizes x seeds x further axes, which are options of [model], [train] or [distill].

    Attributes:
        grade: names of the ladder or of `[grades]`; LightSUAN-2 is a LightSUAN with the sizes of SUAN-2.
            Default: the students of `[distill]`.
        n_samples: data sizes in impressions, at least one; "all" is the whole training part.
        n_seeds: number of seeds, 1 or more, either one for all data sizes or one for each.
        axes: further axes and their values, e.g. `"model.norm" = ["rms", "layer"]`.
    """

    grade: tuple[str, ...]
    n_samples: tuple[int | Literal["all"], ...]
    n_seeds: int | tuple[int, ...] = 1
    axes: dict[str, tuple[Any, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class ModelConfig:
    """`[model]`: which model is trained.

    Attributes:
        kind: `suan`, `lightsuan`, a baseline (`din`, `bst`, `hstu`, `rankmixer`, `dcnv2`, `sim`), or MODULE:CLASS for an
            encoder of your own (docs/extending.md).
        options: the other keys of the section: options of the kind. In a grid over several kinds each takes those that it has.
    """

    kind: str = "suan"
    options: dict[str, Any] = field(default_factory=dict)


_RATES = (1e-30, 1e30)


@dataclass(frozen=True)
class TrainConfig:
    """`[train]`: how each cell is trained; what is not set follows the recipe (docs/recipe.md).

    Attributes:
        batch_size: impressions per step; with `batch_schedule` growing, at most. Default: by the recipe.
        learning_rate: peak rate of the dense parameters. Default: by the recipe, or by `rate_law`.
        recipe_n_samples: data size for which the recipe sets batch size, learning rate and warm-up of all
            cells. Default: the cell's own size; with `share_prefix`, the geometric mean of the smallest and
            the largest size; with a growing batch, the largest.
        embedding_rate: peak rate of the feature table. Default: by the recipe; recipe 1 has a fixed multiple of the dense rate.
        rate_multiple: factor on the rate of the dense parameters, e.g. as an axis to see what a wrong rate costs.
        rate_of_kind: further factors for kinds of models, e.g. `{din = 2.0}`; 1 for those not named.
        rate_law: changes the recipe's rate of the dense parameters, or takes its place; `scaling tune` fits it. Default: the recipe alone.
        recipe: version of the rule. Default: 2; a study whose finished runs are of recipe 1 goes on with that.
        batch_schedule: `fixed` has one batch size for all steps; with `growing`, batch size and learning rate
            follow the samples seen so far, up to the values of the recipe for the largest data size. One training can
            then serve data sizes over three decades (`share_prefix`).
        schedule: `decay` cools down linearly over the second half; `constant` stays at the peak.
        data_order: `independent` draws the nested order anew for each (grade, seed); `shared` gives
            all grades of a seed the same order (paired comparisons; see docs/methods.md). `recent` takes the
            latest impressions before the test part, in time order; only with a log that is split by time.
        packing: `request` trains all impressions of a request in one pass over their history, `stretch`
            all those in a window of a user's log. Do not mix the three in one fit.
        precision: precision of matrix products; `tf32` differs from `float32` only on a GPU.
        share_prefix: train each grade and seed once for all data sizes, which then have the same batch
            size, learning rate and warm-up (docs/methods.md, "One training for many data sizes").
    """

    batch_size: int | None = None
    learning_rate: float | None = None
    embedding_rate: float | None = None
    rate_multiple: float = 1.0
    rate_of_kind: dict[str, float] = field(default_factory=dict)
    rate_law: RateLaw | None = None
    recipe: RecipeVersion | None = None
    recipe_n_samples: int | None = None
    batch_schedule: BatchSchedule = "fixed"
    schedule: Literal["decay", "constant"] = "decay"
    data_order: Literal["independent", "shared", "recent"] = "independent"
    packing: Literal["none", "request", "stretch"] = "none"
    precision: Literal["float32", "tf32", "bf16"] = "float32"
    share_prefix: bool = False

    def __post_init__(self) -> None:
        """Check that all sizes and rates are positive, and that the rate is set once."""
        require_positive(self, "batch_size", "learning_rate", "embedding_rate", "recipe_n_samples")
        require_positive(self, "rate_multiple")
        named = {
            name: getattr(self, name)
            for name in ("learning_rate", "embedding_rate", "rate_multiple")
        }
        for name, rate in (
            *named.items(),
            *((f"rate_of_kind.{k}", v) for k, v in self.rate_of_kind.items()),
        ):
            # products of these are to be numbers, too
            if rate is not None and rate > 0 and not _RATES[0] <= rate <= _RATES[1]:
                raise ValueError(f"{name} is {rate:g}, expected {_RATES[0]:g} to {_RATES[1]:g}")
        if self.learning_rate is not None and self.rate_law is not None:
            raise ValueError("learning_rate and rate_law both set the rate; remove one of them")
        for kind, multiple in self.rate_of_kind.items():
            if not 0 < multiple < math.inf:
                raise ValueError(f"rate_of_kind.{kind} is {multiple}, expected a positive number")
        if self.share_prefix and self.data_order == "recent":
            raise ValueError(
                'share_prefix needs data sizes that begin alike, but with data_order = "recent" a smaller one '
                "begins later; remove one of them"
            )


_MOST_SECONDS = 86_400


@dataclass(frozen=True)
class RunOptions:
    """`[run]`: checkpoints and files of a run; these options do not change its signature.

    Attributes:
        checkpoint_seconds: time between two checkpoints; longer if writing one takes over 2 % of it.
        stale_seconds: a process on another host counts as gone if its last heartbeat is older than this.
        keep_model: whether to save the model of a finished run.
        compile: whether a GPU runs the blocks compiled, as CUDA graphs; on a CPU this gains nothing.
        answer_seconds: of several processes that train a cell together, one that does not answer for so long counts as lost.
        device_memory_gib: memory of the GPU of a process, or the part of a node's memory that a process without one may take. Processes
            that train a cell together divide its feature table if it would take more than half of it. Default: a GPU is asked
            when the run starts; on cores the table stays whole.
    """

    checkpoint_seconds: float = 60.0
    stale_seconds: float = 120.0
    keep_model: bool = True
    compile: bool = False
    answer_seconds: float = 600.0
    device_memory_gib: float | None = None

    def __post_init__(self) -> None:
        """Check that the times and the memory are positive."""
        require_positive(self, "checkpoint_seconds", "stale_seconds", "answer_seconds")
        require_positive(self, "device_memory_gib")
        if not 1 <= self.answer_seconds <= _MOST_SECONDS:
            raise ValueError(
                f"answer_seconds is {self.answer_seconds:g}, expected 1 to {_MOST_SECONDS} (a day)"
            )


@dataclass(frozen=True)
class StudyConfig:
    """A whole study file, checked."""

    study: StudyHeader
    data: DataConfig
    grid: GridConfig
    model: ModelConfig = field(default_factory=ModelConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    distill: DistillConfig = field(default_factory=DistillConfig)
    grades: dict[str, Grade] = field(default_factory=dict)
    slurm: SlurmConfig = field(default_factory=SlurmConfig)
    run: RunOptions = field(default_factory=RunOptions)
    goal: GoalConfig | None = None

    @property
    def name(self) -> str:
        """The study's name."""
        return self.study.name

    def grade(self, name: str, key: str = "grid.grade") -> Grade:
        """Return a grade of this study or of the ladder.

        Raises:
            SettingError: there is no such grade; the message names `key`, the place in the study file.
        """
        known = {**GRADES, **self.grades}
        base = name.removeprefix(_LIGHT) if self.is_light(name) else name
        if base not in known:
            names = [f"{_LIGHT}{one}" for one in GRADES] if self.is_light(name) else known
            raise SettingError(key, f"there is no grade {name}{nearest(name, names)}")
        return known[base]

    def gpus(self, grade_name: str) -> int:
        """The GPUs on each node of a job that trains this grade; 0: it trains on CPU cores."""
        return self.slurm.of_grade(grade_name).gpus

    def n_ranks(self, grade_name: str) -> int:
        """The processes that train a cell of this grade together in a job."""
        return self.slurm.of_grade(grade_name).n_ranks

    def n_devices(self, grade_name: str) -> int:
        """The GPUs, or without any the processes, that a job of this grade has."""
        return self.slurm.of_grade(grade_name).n_devices

    def is_light(self, name: str) -> bool:
        """Whether the name of a grade stands for a LightSUAN."""
        return name.startswith(_LIGHT) and name not in self.grades

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of models in the grid."""
        kinds = self.grid.axes.get("model.kind", (self.model.kind,))
        light = ["lightsuan"] if any(self.is_light(name) for name in self.grid.grade) else []
        return tuple(dict.fromkeys([*map(str, kinds), *light]))

    def options(
        self, name: str, values: Mapping[str, Any] | None = None, where: str = ""
    ) -> ModelOptions:
        """Return the options of the model of a grade, whose name may set the kind.

        Args:
            name: of the grade.
            values: options of `[model]` that axes of the grid set.
            where: place in the study file of what is read, for messages.

        Raises:
            SettingError: there is no such kind of model.
            UserError: an option has a wrong value.
        """
        given = {**self.model.options, **(values or {})}
        kind = str(given.pop("kind", self.model.kind))
        if self.is_light(name):
            if kind not in ("suan", "lightsuan"):
                raise SettingError("grid.grade", f"{name} is a LightSUAN, but model.kind is {kind}")
            kind = "lightsuan"
        try:
            wanted = options_type(kind)
            known = {f.name for f in fields(wanted)}
            own = {option: value for option, value in given.items() if option in known}
            if wanted is SuanOptions:
                own["kind"] = kind
                if kind == "suan":  # it reads the whole history
                    own |= {"window": None, "dilation": None}
            section = from_document(_section(wanted), {"model": own}, where)
            return options_of(kind, section.model)
        except ModelError as error:
            raise SettingError(error.key, str(error)) from error

    def teacher_options(self, name: str, student: ModelOptions) -> ModelOptions:
        """Return the options of a teacher: those of a student that is a SUAN, otherwise the default ones."""
        options = student if isinstance(student, SuanOptions) else SuanOptions()
        if self.is_light(name):
            return replace(options, kind="lightsuan")
        return replace(options, kind="suan", window=None, dilation=None)

    @property
    def teachers(self) -> tuple[DistillConfig, ...]:
        """All settings of `[distill]` in the grid: one for each combination of its `distill` axes."""
        axes = {
            a.partition(".")[2]: v for a, v in self.grid.axes.items() if a.startswith("distill.")
        }
        return tuple(
            replace(self.distill, **dict(zip(axes, values, strict=True)))
            for values in product(*axes.values())
        )


@cache
def _section(options: type) -> Any:
    """The section `[model]` with these options, so that messages name its keys."""
    return make_dataclass("Section", [("model", options)], frozen=True)
