"""Which finished runs to time: for a study, one seed of each model and data size."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from scaling.errors import UserError
from scaling.records import MODEL_FILE, RunRecord, RunStore, ordered_records, settings_columns
from scaling.serving.model_naming import model_columns, model_names
from scaling.study import RunConfig

__all__ = ["RunToMeasure", "runs_to_measure", "with_models"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class RunToMeasure:
    """A run to measure.

    Attributes:
        folder: the run's folder.
        config: its configuration; None if the folder has no record.
        model: the model's name among those of its study and data size; None if the folder has no record.
    """

    folder: Path
    config: RunConfig | None = None
    model: str | None = None

    @property
    def has_model(self) -> bool:
        """Whether the run saved its model."""
        return (self.folder / MODEL_FILE).exists()

    @property
    def label(self) -> str:
        """The folder, the model, the data size and the seed, for progress lines."""
        if self.config is None:
            return self.folder.name
        return f"{self.folder.name} {self.model} D={self.config.n_samples} s{self.config.seed}"

    @property
    def cells(self) -> list[object]:
        """The first cells of a table row: folder, model, data size, seed."""
        own = (self.config.n_samples, self.config.seed) if self.config else (None, None)
        return [self.folder.resolve().name, self.model, *own]


def runs_to_measure(folders: Iterable[Path]) -> list[RunToMeasure]:
    """Choose the runs to time: a run's folder stands for itself, a study's for one seed of each model and size.

    Args:
        folders: of finished runs, or of studies.

    Raises:
        UserError: there is no such folder, or it holds neither a run nor the runs of one study.
    """
    studies: dict[Path, _Study] = {}
    chosen: list[RunToMeasure] = []
    for folder in folders:
        is_study = _is_study(folder)
        path = folder.resolve() if is_study else folder.resolve().parent
        if path not in studies:
            studies[path] = _read_study(path)
        if is_study:
            chosen += _one_seed_each(folder, studies[path])
        else:
            chosen.append(studies[path].run(folder))
    return chosen


@dataclass(frozen=True)
class _Study:
    """The records of a study that can be read, and the names of their models, by signature."""

    records: Mapping[str, RunRecord]
    names: Mapping[str, str]

    def run(self, folder: Path) -> RunToMeasure:
        name = folder.resolve().name
        if name not in self.records:
            return RunToMeasure(folder)
        return RunToMeasure(folder, self.records[name].config, self.names[name])


def _is_study(folder: Path) -> bool:
    if folder.suffix == ".toml":
        raise UserError(f"{folder}: a study file; give the folder of its runs, e.g. runs/NAME")
    if not folder.is_dir():
        raise UserError(
            f"{folder}: no such folder; expected the folder of a finished run or of a study's runs"
        )
    if any(folder.glob("*/record.json")):
        return True
    if any(folder.glob("*/*/record.json")):
        raise UserError(
            f"{folder}: holds several studies; give the folder of one, e.g. {folder}/NAME"
        )
    return False


def _read_study(folder: Path) -> _Study:
    """Read all records, smallest models first; a damaged record is logged and left out."""
    store = RunStore(folder)
    found = []
    for path in sorted(folder.glob("*/record.json")):
        try:
            found.append(store.read(path.parent.name))
        except UserError as error:
            logger.warning("%s", error)
    records = {record.signature: record for record in ordered_records(found)}
    return _Study(records, _names(list(records.values())))


def _names(records: Sequence[RunRecord]) -> dict[str, str]:
    """Name each run's model among the study's models of its data size, by signature."""
    columns = model_columns(settings_columns(records))
    by_size: dict[int, list[RunRecord]] = {}
    for record in records:
        by_size.setdefault(record.config.n_samples, []).append(record)
    names: dict[str, str] = {}
    for alike in by_size.values():
        kinds = [record.config.model.kind for record in alike]
        signatures = (record.signature for record in alike)
        names |= zip(signatures, model_names(settings_columns(alike), kinds, columns), strict=True)
    return names


def _one_seed_each(folder: Path, study: _Study) -> list[RunToMeasure]:
    """For each model and data size, the first seed that saved its model; without any, the first seed."""
    models: dict[object, list[RunToMeasure]] = {}
    for signature, record in study.records.items():  # ordered by seed within a model and data size
        models.setdefault(_without_seed(record), []).append(study.run(folder / signature))
    if len(models) < len(study.records):
        logger.info(
            "%s: one seed of each model and data size, %d of %d runs; name a run's folder to measure another",
            *(folder, len(models), len(study.records)),
        )
    return [next((one for one in seeds if one.has_model), seeds[0]) for seeds in models.values()]


def _without_seed(record: RunRecord) -> object:
    """The configuration that all seeds of a model share; each seed has its own run of the teacher."""
    config = replace(record.config, seed=0)
    if config.distill is None or record.teacher is None:
        return config
    distill = replace(config.distill, teacher_init=None)
    return replace(config, distill=distill), config.distill.way, record.teacher.n_samples


def with_models(runs: Sequence[RunToMeasure]) -> list[RunToMeasure]:
    """Return the runs that can be measured, each once; a warning lists the others.

    Raises:
        UserError: there is none, or a folder cannot be written.
    """
    once = list({one.folder.resolve(): one for one in runs}.values())
    found = [one for one in once if one.has_model]
    if not once:
        raise UserError("no record can be read; see above")
    if not found:
        others = (
            f", nor in {len(once) - 1} other run{'s' if len(once) > 2 else ''}"
            if len(once) > 1
            else ""
        )
        raise UserError(
            f"{once[0].folder / MODEL_FILE}: no such file{others}; "
            "a run saves its model when it is done, unless [run] keep_model = false"
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
            raise UserError(f"{one.folder}: cannot be written, but serving.json is saved there")
    return found
