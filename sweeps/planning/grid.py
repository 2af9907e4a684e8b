"""The cells of a study: grades x data sizes x further axes x seeds, each a resolved `RunConfig`."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from functools import cache, partial
from itertools import product
from typing import Any

from models.grades import Grade
from models.kinds import ModelError, check_model, encoder_class, exact_packing, size_of
from models.model_options import ModelOptions, settings_of_model
from scaling.errors import SettingError
from scaling.strict_values import from_document
from scaling.study import (
    GROWING_WARMUP,
    NO_TEACHER,
    DataFacts,
    Recipe,
    RunConfig,
    StudyConfig,
    TrainConfig,
    recipe_for,
    warmup_steps,
)
from sweeps.planning.teacher_runs import Teachers

__all__ = ["check_models", "data_sizes", "grid_cells", "typical_size"]


def grid_cells(study: StudyConfig, data: DataFacts) -> tuple[RunConfig, ...]:
    """Return all cells of the grid, in the order of its grades, data sizes and further axes.

    A cell without a teacher occurs once, however many values the other `[distill]` axes have. In the same
    way a model occurs once for all values of an option that it lacks, as a SUAN lacks LightSUAN's window.

    Raises:
        UserError: a data size is larger than the training part, two cells are the same run, or a teacher
            cannot be resolved.
    """
    grid = study.grid
    sizes = data_sizes(study, data)
    n_seeds_of = (grid.n_seeds,) * len(sizes) if isinstance(grid.n_seeds, int) else grid.n_seeds
    cells: dict[str, RunConfig] = {}
    axes = {axis: v for axis, v in grid.axes.items() if not axis.startswith("distill.")}
    model_axes = {axis.partition(".")[2] for axis in axes if axis.startswith("model.")}
    check = cache(partial(_check_packing, data))

    def lacking(options: ModelOptions) -> bool:
        """Whether the model lacks an option that is an axis, so that it occurs once for all values."""
        sparse = {"window", "dilation"} if options.kind == "suan" else set()
        return bool(model_axes - (settings_of_model(options).keys() - sparse))

    ways, teachers = study.teachers, Teachers(study, data)
    for grade_name, (n_samples, n_seeds), values in product(
        grid.grade, zip(sizes, n_seeds_of, strict=True), product(*axes.values())
    ):
        own = dict(zip(axes, values, strict=True))
        options, train = (
            study.options(grade_name, _values(own, "model"), "grid"),
            _train(study, own),
        )
        if train.data_order == "recent" and not data.by_time:
            raise SettingError(
                "train.data_order",
                f'"recent" needs a log that is split by time, but {data.path} is split by user; '
                'set "independent" or "shared", or import it with split=time',
            )
        grade = study.grade(grade_name)
        check(grade, options, train.packing)
        typical = train.recipe_n_samples or typical_size(train, sizes, n_samples)
        rate_of = partial(_rate, train, typical, data, kind=options.kind)
        batch_size = train.batch_size or _rule(train, typical, grade, data).batch_size
        alike: dict[str, RunConfig] = {}
        for way, seed in product(ways, range(n_seeds)):
            config = RunConfig(
                grade_name=grade_name,
                grade=grade,
                model=options,
                n_samples=n_samples,
                seed=seed,
                batch_size=batch_size,
                learning_rate=rate_of(grade),
                embedding_rate=_embedding_rate(train, typical, grade, data),
                schedule=train.schedule,
                data_order=train.data_order,
                packing=train.packing,
                precision=train.precision,
                batch_schedule=train.batch_schedule,
                warmup_steps=_warmup(train, typical, batch_size),
                data_fingerprint=data.fingerprint or "",
            )
            if len(ways) > 1 or way.teacher != NO_TEACHER:
                config = replace(config, distill=teachers.resolve(way, config, rate_of))
            alike.setdefault(config.signature, config)
        for config in alike.values():
            twin = cells.setdefault(config.signature, config)
            if twin is not config and not (lacking(options) and twin.grade_name == grade_name):
                raise SettingError(
                    "grid",
                    f"{twin.label} and {config.label} are the same run"
                    f"{' for ' + str(values) if values else ''}; remove one",
                )
    return tuple(cells.values())


def check_models(cells: Iterable[RunConfig], data: DataFacts) -> None:
    """Run classes from elsewhere on small passes, for a verb that plans or trains these cells.

    Raises:
        SettingError: a class does not keep the protocol.
    """
    for grade, options in dict.fromkeys((cell.grade, cell.model) for cell in cells):
        try:
            check_model(grade, options, data.schema)
        except ModelError as error:
            raise SettingError(error.key, str(error)) from error


def data_sizes(study: StudyConfig, data: DataFacts) -> list[int]:
    """Return the data sizes of the grid as numbers, in its order."""
    sizes = [data.n_train if size == "all" else size for size in study.grid.n_samples]
    if max(sizes) > data.n_train:
        raise SettingError(
            "grid.n_samples",
            f"{max(sizes)} is more than the {data.n_train} training impressions of "
            f'{data.path}; "all" takes them all',
        )
    return sizes


def typical_size(train: TrainConfig, sizes: Sequence[int], n_samples: int) -> int:
    """Return the data size for which the recipe sets batch size, rate and warm-up of a cell."""
    if train.batch_schedule == "growing":
        return max(sizes)
    # one training for all sizes needs the same batch size, rate and warm-up: those of the middle size
    return math.isqrt(min(sizes) * max(sizes)) if train.share_prefix else n_samples


def _warmup(train: TrainConfig, n_samples: int, batch_size: int) -> int:
    # a growing batch begins like the smallest data size, whatever follows
    small = train.batch_schedule == "growing"
    return warmup_steps(math.ceil(n_samples / batch_size)) if not small else GROWING_WARMUP


def _rule(train: TrainConfig, n_samples: int, grade: Grade, data: DataFacts) -> Recipe:
    return recipe_for(n_samples, grade.d * len(data.schema.behaviour), train.recipe)


def _rate(train: TrainConfig, n_samples: int, data: DataFacts, grade: Grade, *, kind: str) -> float:
    multiple = train.rate_multiple * train.rate_of_kind.get(kind, 1.0)
    return multiple * _base_rate(train, n_samples, data, grade)


def rate_multiple(study: StudyConfig, data: DataFacts, config: RunConfig) -> float:
    """Return `train.rate_multiple` of a cell, of which the run itself knows only the rate."""
    train, sizes = study.train, data_sizes(study, data)
    typical = train.recipe_n_samples or typical_size(train, sizes, config.n_samples)
    own = study.train.rate_of_kind.get(config.model.kind, 1.0)
    return round(
        config.learning_rate / own / _base_rate(study.train, typical, data, config.grade), 9
    )


def _base_rate(train: TrainConfig, n_samples: int, data: DataFacts, grade: Grade) -> float:
    rule = _rule(train, n_samples, grade, data).learning_rate
    if train.rate_law is not None:
        return train.rate_law.rate(grade.d * len(data.schema.behaviour), n_samples, rule)
    return train.learning_rate or rule


def _embedding_rate(
    train: TrainConfig, n_samples: int, grade: Grade, data: DataFacts
) -> float | None:
    return train.embedding_rate or _rule(train, n_samples, grade, data).embedding_rate


def _values(axes: Mapping[str, Any], section: str) -> dict[str, Any]:
    """The values of the axes that are options of a section."""
    start = f"{section}."
    return {axis.removeprefix(start): v for axis, v in axes.items() if axis.startswith(start)}


def _train(study: StudyConfig, axes: Mapping[str, Any]) -> TrainConfig:
    """The study's [train] with the values of the axes, which are checked like those of a study file."""
    values = {**asdict(study.train), **_values(axes, "train")}
    return from_document(TrainConfig, values, "grid")


def _check_packing(data: DataFacts, grade: Grade, options: ModelOptions, packing: str) -> None:
    """Check that the model can be trained as planned.

    Raises:
        SettingError: packing is not exact for it, or its sizes cannot be counted.
    """
    try:
        if packing != "none" and packing not in exact_packing(options):
            needs = encoder_class(options.kind).packing_needs
            raise SettingError(
                "train.packing",
                f"{packing} is not exact for this {options.kind}: {needs}",
            )
        size_of(grade, options, data.schema)
    except ModelError as error:
        raise SettingError(error.key, str(error)) from error
