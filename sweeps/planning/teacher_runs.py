"""The teachers of a study's cells: their resolved settings, and the finished runs from which they start."""

import logging
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from models.grades import Grade
from models.kinds import size_of
from scaling.errors import SettingError
from scaling.records import MODEL_FILE, RunStore
from scaling.study import NO_TEACHER, DataFacts, Distillation, DistillConfig, RunConfig, StudyConfig

__all__ = ["Teachers", "runs_before", "teacher_folders", "warn_of_teachers"]


logger = logging.getLogger(__name__)


class Teachers:
    """Resolves the teachers of a study's cells and reads each folder of runs once."""

    def __init__(self, study: StudyConfig, data: DataFacts) -> None:
        self._study, self._data = study, data
        self._read: dict[RunStore, list[RunConfig]] = {}

    def resolve(
        self, wanted: DistillConfig, student: RunConfig, rate_of: Callable[[Grade], float]
    ) -> Distillation | None:
        """Return the teacher of a cell; None if it has none.

        Args:
            wanted: the settings of `[distill]` for this cell.
            student: the cell without a teacher.
            rate_of: returns the peak learning rate of the dense parameters of a grade.

        Raises:
            UserError: there is no finished run to start from, or it does not fit the teacher or the data.
        """
        students = wanted.students
        if wanted.teacher == NO_TEACHER or (
            students is not None and student.grade_name not in students
        ):
            return None
        study = self._study
        grade = study.grade(wanted.teacher, "distill.teacher")
        options = study.teacher_options(wanted.teacher, student.model)
        if wanted.share_embeddings and grade.d != student.grade.d:
            raise SettingError(
                "distill.share_embeddings",
                f"{wanted.teacher} has d = {grade.d} and {student.grade_name} "
                f"d = {student.grade.d}; name grades of one width in [grades], or share nothing",
            )
        teacher = Distillation(
            teacher_name=wanted.teacher,
            teacher=grade,
            model=options,
            learning_rate=rate_of(grade),
            weight=wanted.weight,
            temperature=wanted.temperature,
            share_embeddings=wanted.share_embeddings,
        )
        if not wanted.teacher_init:
            return teacher
        signature = self._finished_run(wanted, teacher, student)
        if not wanted.freeze_teacher:
            return replace(teacher, teacher_init=signature)
        if wanted.share_embeddings:
            raise SettingError(
                "distill.share_embeddings",
                "a frozen teacher cannot share the table that its student trains",
            )
        return replace(teacher, teacher_init=signature, learning_rate=None)

    def _finished_run(
        self, wanted: DistillConfig, teacher: Distillation, student: RunConfig
    ) -> str:
        """Return the signature of the run from which the teacher starts."""
        path, data = Path(wanted.teacher_init), self._data
        if not os.path.isdir(path):  # noqa: PTH112  # Path.is_dir raises if the name is too long
            raise SettingError(
                "distill.teacher_init",
                f"{path}: no such folder; expected the folder of a finished run, or of a study's runs",
            )
        runs = _runs(path)
        if runs.root == path.resolve():
            chosen = self._run_of_study(runs, wanted, teacher, student)
        elif wanted.teacher_samples != "largest":
            raise SettingError(
                "distill.teacher_samples",
                f"{path} is the folder of one run; to choose a data size, name the folder of its study's runs",
            )
        elif not runs.has(path.resolve().name):
            raise SettingError(
                "distill.teacher_init", f"{path}: that run is not finished; let it end first"
            )
        else:
            chosen = runs.read(path.resolve().name).config
            if (chosen.grade, chosen.model) != (teacher.teacher, teacher.model):
                raise SettingError(
                    "distill.teacher_init",
                    f"{path}: that run is {chosen.label}, whose sizes or options differ from those of {wanted.teacher} here",
                )
            if chosen.distill is not None:
                raise SettingError(
                    "distill.teacher_init",
                    f"{path}: that run is {chosen.label}, and the impressions that its own teacher saw would "
                    "not be counted; name a run that was trained alone",
                )
        if data.fingerprint is not None and chosen.data_fingerprint != data.fingerprint:
            raise SettingError(
                "distill.teacher_init",
                f"{path}: {chosen.label} was trained on other data ({chosen.data_fingerprint[:12]}) than "
                f"{data.path} ({data.fingerprint[:12]}), whose ids mean other things",
            )
        if not (runs.folder(chosen.signature) / MODEL_FILE).exists():
            raise SettingError(
                "distill.teacher_init",
                f"{path}: {chosen.label} has no saved model; train it with [run] keep_model = true",
            )
        return chosen.signature

    def _run_of_study(
        self, runs: RunStore, wanted: DistillConfig, teacher: Distillation, student: RunConfig
    ) -> RunConfig:
        path = wanted.teacher_init
        if runs not in self._read:
            self._read[runs] = [record.config for record in runs.read_all()]
        own = (teacher.teacher, teacher.model, student.seed, None)
        alike = [c for c in self._read[runs] if (c.grade, c.model, c.seed, c.distill) == own]
        size = student.n_samples if wanted.teacher_samples == "same" else wanted.teacher_samples
        chosen = [config for config in alike if size in ("largest", config.n_samples)]
        if not chosen:
            there = ", ".join(sorted({f"D={c.n_samples}" for c in alike})) or "none"
            on = "" if size == "largest" else f" on {size} impressions"
            raise SettingError(
                "distill.teacher_init",
                f"{path}: no finished run of {wanted.teacher} with seed {student.seed}{on} and the study's "
                f"options (there: {there}); train it first",
            )
        most = max(config.n_samples for config in chosen)
        last = [config for config in chosen if config.n_samples == most]
        if len(last) > 1:
            raise SettingError(
                "distill.teacher_init",
                f"{path}: {len(last)} finished runs of {last[0].label} differ in how they were trained; "
                "name the folder of one of them",
            )
        return last[0]


def teacher_folders(study: StudyConfig) -> tuple[str, ...]:
    """Return the absolute paths of the runs folders that hold the runs of the study's warm teachers."""
    named = dict.fromkeys(one.teacher_init for one in study.teachers if one.teacher_init)
    return tuple(str(_runs(Path(name)).root) for name in named)


def warn_of_teachers(study: StudyConfig, configs: Sequence[RunConfig], data: DataFacts) -> None:
    """Warn about students that cost more than their teachers, and teachers that saw other impressions."""
    before = runs_before(study, configs)
    if any(_saw_others(c, before.get(c.distill.teacher_init or "")) for c in configs if c.distill):
        logger.warning(
            "warning: distill: some teachers saw as many impressions as their students, but not the same ones, "
            'because each grade has its own order; set train.data_order = "shared" in both studies'
        )

    def cost(config: RunConfig) -> int:
        return size_of(config.grade, config.model, data.schema).flops_per_sample

    pairs = {(c.grade_name, c.distill.teacher_name): c for c in configs if c.distill is not None}
    for (student, teacher), config in pairs.items():
        alone = config.teacher_alone
        if alone is not None and cost(config) > cost(alone):
            logger.warning(
                "warning: distill: the student %s is larger than its teacher %s (%s and %s FLOPs a sample)",
                student, teacher, f"{cost(config):,}", f"{cost(alone):,}",
            )  # fmt: skip


def runs_before(study: StudyConfig, configs: Iterable[RunConfig]) -> dict[str, RunConfig]:
    """Return the finished runs from which the cells' teachers start, by signature."""
    folders = [RunStore(Path(folder)) for folder in teacher_folders(study)]
    named = dict.fromkeys(c.distill.teacher_init for c in configs if c.distill is not None)
    return {
        name: runs.read(name).config
        for name in named
        for runs in folders
        if name is not None and runs.has(name)
    }


def _saw_others(student: RunConfig, teacher: RunConfig | None) -> bool:
    if teacher is None or teacher.n_samples != student.n_samples:
        return False
    return teacher.order != student.order


def _runs(path: Path) -> RunStore:
    """Return the runs folder that `path` is, or that contains the run `path`."""
    path = path.resolve()
    is_run = (path / "config.json").exists() or (path / "record.json").exists()
    return RunStore(path.parent if is_run else path)
