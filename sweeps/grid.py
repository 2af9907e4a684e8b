"""The cells of a study: grades x data sizes x further axes x seeds, each a resolved `RunConfig`."""

import math
from dataclasses import asdict
from itertools import product
from typing import Any

from models.config import SuanOptions
from scaling.config import RunConfig, StudyConfig, TrainConfig, from_document
from scaling.dataset import DataFacts
from scaling.errors import UserError
from scaling.recipe import recipe, warmup_steps

__all__ = ["grid_cells"]


def grid_cells(study: StudyConfig, data: DataFacts) -> tuple[RunConfig, ...]:
    """Return every cell of the grid, smallest grade and data size first.

    Raises:
        UserError: a data size larger than the training part, or two cells that are the same run.
    """
    grid = study.grid
    seeds = (
        grid.n_seeds if not isinstance(grid.n_seeds, int) else (grid.n_seeds,) * len(grid.n_samples)
    )
    sizes = [data.n_train if size == "all" else size for size in grid.n_samples]
    if max(sizes) > data.n_train:
        raise UserError(
            f"grid.n_samples: {max(sizes)} is more than the {data.n_train} training impressions of "
            f'{data.path}; "all" takes them all'
        )
    cells: dict[str, RunConfig] = {}
    names = list(grid.axes)
    for grade_name, (n_samples, n_seeds), values in product(
        grid.grade, zip(sizes, seeds, strict=True), product(*grid.axes.values())
    ):
        options, train = _apply(study, dict(zip(names, values, strict=True)))
        grade = study.grade(grade_name)
        # one training serves all sizes only under one batch, rate and warm-up: those of the middle
        typical = math.isqrt(min(sizes) * max(sizes)) if train.share_prefix else n_samples
        rule = recipe(typical, grade.d * len(data.schema.behaviour))
        batch_size = rule.batch_size if train.batch_size is None else train.batch_size
        for seed in range(n_seeds):
            config = RunConfig(
                grade_name=grade_name,
                grade=grade,
                model=options,
                n_samples=n_samples,
                seed=seed,
                batch_size=batch_size,
                learning_rate=(
                    rule.learning_rate if train.learning_rate is None else train.learning_rate
                ),
                schedule=train.schedule,
                data_order=train.data_order,
                packing=train.packing,
                precision=train.precision,
                warmup_steps=warmup_steps(math.ceil(typical / batch_size)),
                data_fingerprint=data.fingerprint or "",
            )
            twin = cells.setdefault(config.signature, config)
            if twin is not config:
                raise UserError(
                    f"grid: {twin.label} and {config.label} are the same run"
                    f"{' for ' + str(values) if values else ''}; remove one"
                )
    return tuple(cells.values())


def _apply(study: StudyConfig, values: dict[str, Any]) -> tuple[SuanOptions, TrainConfig]:
    """The study's options with the axes' values, converted as a study file's would be."""
    sections: dict[str, dict[str, Any]] = {"model": {}, "train": {}}
    for axis, value in values.items():
        section, _, option = axis.partition(".")
        sections[section][option] = value
    model = {**asdict(study.model), **sections["model"]}
    train = {**asdict(study.train), **sections["train"]}
    return from_document(SuanOptions, model, "grid"), from_document(TrainConfig, train, "grid")
