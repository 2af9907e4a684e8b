"""Which finished runs to time, and what distinguishes their models."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING

from scaling.errors import UserError

if TYPE_CHECKING:
    from scaling.records import RunRecord
    from scaling.study import RunConfig


__all__ = ["RunToMeasure", "runs_to_measure", "with_models"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class RunToMeasure:
    """A run to measure; of one without a record only the folder is known.

    `told` is what else tells its model from the study's others, e.g. window 8.
    """

    folder: Path
    config: RunConfig | None
    told: str = ""

    @property
    def has_model(self) -> bool:
        """Whether the run kept its model."""
        from scaling.records import MODEL_FILE

        return (self.folder / MODEL_FILE).exists()

    @property
    def model(self) -> str | None:
        """For people, e.g. LightSUAN-1 after SUAN-2, frozen."""
        if self.config is None:
            return None
        name, taught = self.config.grade_name, self.config.distill
        if self.config.model.kind == "lightsuan" and not name.startswith("Light"):
            name = f"Light{name}"
        name = name if taught is None else f"{name} after {taught.teacher_name}, {taught.way}"
        return f"{name}, {self.told}" if self.told else name

    @property
    def label(self) -> str:
        """The folder, the model, the data size and the seed, for progress lines."""
        if self.config is None:
            return self.folder.name
        return f"{self.folder.name} {self.model} D={self.config.n_samples} s{self.config.seed}"

    @property
    def cells(self) -> list[object]:
        """The first cells of a table's row: folder, model, data size, seed."""
        own = (self.config.n_samples, self.config.seed) if self.config else (None, None)
        return [self.folder.resolve().name, self.model, *own]


def runs_to_measure(folder: Path) -> list[RunToMeasure]:
    """A run, or of a study the first seed of each model and data size, the smallest first."""
    if folder.suffix == ".toml":
        raise UserError(f"{folder}: a study file; give the folder of its runs, e.g. runs/NAME")
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; expected that of a finished run")
    of_study = sorted(path.parent for path in folder.glob("*/record.json"))
    if not of_study and any(folder.glob("*/*/record.json")):
        raise UserError(
            f"{folder}: holds several studies; give the folder of one, e.g. {folder}/NAME"
        )
    if not of_study:
        record = _record(folder)
        return [RunToMeasure(folder, record.config if record else None)]
    from scaling.records import ordered_records

    found = [record for record in map(_record, of_study) if record is not None]
    models: dict[object, list[RunToMeasure]] = {}
    options, seen = _differing_options(found), _seen_by_teachers(found)
    for record in ordered_records(found):
        told = _what_differs(record, options, seen)
        one = RunToMeasure(folder / record.signature, record.config, told)
        models.setdefault(_but_for_the_seed(record), []).append(one)
    if len(models) < len(found):
        logger.info(
            "%s: one seed of each model and data size, %d of %d runs; name a run's folder to measure another",
            *(folder, len(models), len(found)),
        )
    # the records are in the order of their seeds
    return [next((one for one in seeds if one.has_model), seeds[0]) for seeds in models.values()]


def _differing_options(records: Sequence[RunRecord]) -> list[str]:
    """The options in which a study's models differ, but for the kind, which is in their names."""
    models = [record.config.model for record in records]
    names = [field.name for field in fields(models[0]) if field.name != "kind"] if models else []
    # a SUAN beside LightSUANs has no window at all
    return [n for n in names if len({getattr(one, n) for one in models} - {None}) > 1]


def _seen_by_teachers(records: Sequence[RunRecord]) -> dict[object, set[int]]:
    """How much the teachers of each name and of students of each data size had seen."""
    seen: dict[object, set[int]] = {}
    for record in records:
        if record.teacher is not None:
            seen.setdefault(_taught(record), set()).add(record.teacher.n_samples)
    return seen


def _taught(record: RunRecord) -> object:
    taught = record.config.distill
    return taught and (taught.teacher_name, taught.way, record.config.n_samples)


def _what_differs(
    record: RunRecord, options: Sequence[str], seen: Mapping[object, set[int]]
) -> str:
    model = record.config.model
    told = [
        f"{name.replace('_', ' ')} {getattr(model, name)}"
        for name in options
        if getattr(model, name) is not None
    ]
    if record.teacher is not None and len(seen[_taught(record)]) > 1:
        told.append(f"{record.teacher.n_samples:,} seen")
    return ", ".join(told)


def _but_for_the_seed(record: RunRecord) -> object:
    """What the seeds of a model share: the teacher's run is one for each."""
    config = replace(record.config, seed=0)
    if config.distill is None or record.teacher is None:
        return config
    distill = replace(config.distill, teacher_init=None)
    return replace(config, distill=distill), config.distill.way, record.teacher.n_samples


def _record(folder: Path) -> RunRecord | None:
    from scaling.records import RunStore

    runs = RunStore(folder.resolve().parent)
    name = folder.resolve().name
    if not runs.has(name):
        return None
    try:
        return runs.read(name)
    except UserError as error:
        logger.warning("%s", error)
        return None


def with_models(runs: Sequence[RunToMeasure]) -> list[RunToMeasure]:
    """The runs that can be measured, each once; others are told.

    Raises:
        UserError: there is none, or a folder cannot be written.
    """
    from scaling.records import MODEL_FILE

    once = list({one.folder.resolve(): one for one in runs}.values())
    found = [one for one in once if one.has_model]
    if not once:
        raise UserError("no record can be read; see above")
    if not found:
        others = (
            f", nor of {len(once) - 1} other run{'s' if len(once) > 2 else ''}"
            if len(once) > 1
            else ""
        )
        raise UserError(
            f"{once[0].folder / MODEL_FILE}: no such file{others}; "
            "a run keeps its model when it is done, unless [run] keep_model = false"
        )
    missing = [one.label for one in once if not one.has_model]
    if missing:
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        logger.warning(
            "left out without a %s ([run] keep_model = false?): %s%s",
            *(MODEL_FILE, ", ".join(missing[:3]), more),
        )
    for one in found:
        if not os.access(one.folder, os.W_OK):
            raise UserError(f"{one.folder}: cannot be written, but serving.json is kept there")
    return found
