"""Reads a study file (TOML with the sections of a `StudyConfig`) with its overrides, and checks it."""

import math
import re
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from models.grades import GRADES
from models.kinds import ModelError, options_type
from scaling.documents import parse_toml, read_toml
from scaling.errors import SettingError, UserError, nearest
from scaling.strict_values import from_document
from scaling.study.sections import GridConfig, ModelConfig, StudyConfig, TrainConfig
from scaling.study.teacher_settings import NO_TEACHER, DistillConfig

__all__ = ["check_name", "load_study", "override_value"]


# sections whose options can be axes of the grid
_AXIS_SECTIONS: dict[str, type] = {
    "model": ModelConfig,
    "train": TrainConfig,
    "distill": DistillConfig,
}
# texts that may have several lines: shell code, and a title for people
_SEVERAL_LINES = ("slurm.setup", "study.description")
_MOST_CELLS = 200_000  # which take over ten seconds to plan
_MOST_PARTS = 32
_MOST_NAME = 200  # characters; file systems take 255
_NO_AXES = ("train.share_prefix", "train.recipe_n_samples", "train.rate_law", "distill.student")


def load_study(path: Path, overrides: Sequence[str] = ()) -> StudyConfig:
    """Read a study file; each override is `section.key=value` with a TOML value.

    Raises:
        UserError: the file is missing or not TOML, or a key or a value is not valid.
    """
    try:
        document = read_toml(path)
    except OSError as error:
        if path.is_dir():
            raise UserError(
                f"{path}: a folder, expected a study file (.toml), e.g. the one whose study.name is {path.resolve().name}"
            ) from error
        raise UserError(f"{path}: cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not a TOML file: {error}") from error
    except ValueError as error:
        raise UserError(f"{path}: {error}") from error
    for override in overrides:
        _apply_override(document, override)
    for key, text in _texts(document):
        if bad := next((c for c in text if c < " " or "\x7f" <= c < "\xa0"), None):
            raise UserError(
                f"{path}: {key}: {text!r} holds a control character ({bad!r}); remove it"
            )
    grid = document.get("grid")
    if isinstance(grid, dict):
        known = {f.name for f in fields(GridConfig)} - {"axes"}
        axes = {key: grid.pop(key) for key in list(grid) if "." in key}
        axes |= {
            f"{section}.{key}": values
            for section in _AXIS_SECTIONS
            if isinstance(grid.get(section), dict)
            for key, values in grid.pop(section).items()
        }
        for section in _AXIS_SECTIONS:
            if section in grid:
                raise UserError(
                    f"{path}: grid.{section}: expected a table of options and their values"
                )
        if "axes" in grid:
            raise UserError(
                f"{path}: grid.axes: unknown key{nearest('axes', known)}; "
                'name an axis by its option, e.g. "model.norm"'
            )
        grid["axes"] = axes
        distill = document.get("distill")
        if "grade" not in grid and isinstance(distill, dict) and "student" in distill:
            student = distill["student"]
            grid["grade"] = [student] if isinstance(student, str) else student
    model = document.get("model")
    if isinstance(model, dict):
        options = {key: value for key, value in model.items() if key != "kind"}
        document["model"] = {k: v for k, v in model.items() if k == "kind"} | {"options": options}
    study = from_document(StudyConfig, document, str(path))
    try:
        _check(study)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    return study


def override_value(text: str) -> Any:
    """Return what an override sets a key to: a TOML value, or a bare word as a string."""
    try:
        document = parse_toml(f"value = {text}")
    except ValueError:
        return text
    return document["value"] if len(document) == 1 else text


def check_name(name: str) -> None:
    """Check that a study can be called so.

    Raises:
        SettingError: no folder can have this name everywhere.
    """
    if len(name) > _MOST_NAME or not re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9._-]*", name):
        raise SettingError(
            "study.name",
            f"{name!r} cannot be a folder's name; use letters, digits, . _ - and at most {_MOST_NAME} of them",
        )


def _apply_override(document: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    parts = key.strip().split(".")
    if not equals or not all(parts) or len(parts) < 2:
        raise UserError(f"override {override}: expected section.key=value, e.g. grid.n_seeds=3")
    if len(parts) > _MOST_PARTS:
        raise UserError(
            f"override {parts[0]}....: a key of {len(parts):,} parts; expected section.key"
        )
    value = override_value(text)
    target = document
    for part in parts[:-1]:
        target = target.setdefault(part, {})
        if not isinstance(target, dict):
            raise UserError(f"override {override}: {part} is not a section")
    target[parts[-1]] = value


def _texts(value: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """Yield the names and the texts of a document, which reach terminals, scripts and names of files, with their keys."""
    if isinstance(value, dict):
        for name, item in value.items():
            yield key or "study file", name
            yield from _texts(item, f"{key}.{name}" if key else name)
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item, key)
    elif isinstance(value, str) and key not in _SEVERAL_LINES:
        yield key, value


def _check(study: StudyConfig) -> None:
    check_name(study.name)
    for own in study.grades:
        if own in GRADES:
            raise UserError(f"grades.{own}: this name is taken by the ladder; choose another")
    _check_grid(study)
    for own in study.slurm.grades:
        if own not in study.grid.grade:
            raise UserError(f"slurm.grades.{own}: not in the grid{nearest(own, study.grid.grade)}")
    if study.goal is not None and study.goal.at and isinstance(study.goal.at[0], str):
        study.grade(study.goal.at[0], "goal.at")
    _check_kinds(study)
    _check_axes(study)
    _check_teachers(study)


def _check_grid(study: StudyConfig) -> None:
    grid = study.grid
    named = "distill.student" if grid.grade == study.distill.students else "grid.grade"
    for key, values in ((named, grid.grade), ("grid.n_samples", grid.n_samples)):
        if not values:
            raise UserError(f"{key}: empty; expected at least one value")
        _check_distinct(key, values)
    for grade in grid.grade:
        study.grade(grade, named)
    for size in grid.n_samples:
        if size != "all" and size < 1:
            raise UserError(f"grid.n_samples: {size} is not a positive number of impressions")
    counts = (grid.n_seeds,) if isinstance(grid.n_seeds, int) else grid.n_seeds
    if not isinstance(grid.n_seeds, int) and len(counts) != len(grid.n_samples):
        raise UserError(
            f"grid.n_seeds: {len(counts)} numbers for {len(grid.n_samples)} data sizes; "
            "give one number, or one for each size"
        )
    if min(counts) < 1:
        raise UserError("grid.n_seeds: expected at least one seed")
    n_runs = sum(counts) if len(counts) > 1 else counts[0] * len(grid.n_samples)
    n_cells = n_runs * math.prod([len(grid.grade), *map(len, grid.axes.values())])
    if n_cells > _MOST_CELLS:
        raise UserError(f"grid: {n_cells:,} cells, expected at most {_MOST_CELLS:,}")


def _check_distinct(key: str, values: Sequence[Any]) -> None:
    seen: set[Any] = set()
    for value in values:
        mark = repr(value) if isinstance(value, list | dict) else value
        if mark in seen:
            raise UserError(f"{key}: {value} is given twice; remove one")
        seen.add(mark)


def _check_kinds(study: StudyConfig) -> None:
    grid, kinds = study.grid, study.kinds
    for kind in study.train.rate_of_kind:
        if kind not in kinds:
            raise UserError(f"train.rate_of_kind.{kind}: not in the grid{nearest(kind, kinds)}")
    named = [axis.partition(".")[2] for axis in grid.axes if axis.startswith("model.")]
    given = [name for name in (*study.model.options, *named) if name != "kind"]
    try:
        known = {f.name for kind in kinds for f in fields(options_type(kind))} - {"kind"}
    except ModelError as error:
        raise UserError(f"model.kind: {error}") from error
    for option in given:
        place = f"grid.model.{option}" if option in named else f"model.{option}"
        if option in ("window", "dilation") and option in known and "lightsuan" not in kinds:
            raise UserError(
                f'model.{option}: a SUAN reads the whole history; set kind = "lightsuan" in [model]'
            )
        if option not in known:
            text = "there is no such option" if option in named else "unknown key"
            of = f" of {', '.join(kinds)}" if kinds != ("suan",) else ""
            raise UserError(f"{place}: {text}{of}{nearest(option, known)}")
    for kind in kinds:
        grade = next((one for one in grid.grade if not study.is_light(one)), grid.grade[0])
        study.options(grade, None if study.is_light(grade) else {"kind": kind})


def _check_axes(study: StudyConfig) -> None:
    for axis, values in study.grid.axes.items():
        section, _, option = axis.partition(".")
        if section not in _AXIS_SECTIONS:
            raise UserError(f"grid.{axis}: an axis is model.OPTION, train.OPTION or distill.OPTION")
        valid = [f.name for f in fields(_AXIS_SECTIONS[section])]
        if section != "model" and option not in valid:  # options of models: see `_check_kinds`
            raise UserError(f"grid.{axis}: there is no such option{nearest(option, valid)}")
        if axis in _NO_AXES:
            raise UserError(f"grid.{axis}: is not an axis; set it in [{section}]")
        if not values:
            raise UserError(f"grid.{axis}: empty; expected at least one value")
        _check_distinct(f"grid.{axis}", values)
        if section == "model":
            _check_model_axis(study, axis, option, values)
            continue
        for value in values:
            current = asdict(getattr(study, section))
            from_document(_AXIS_SECTIONS[section], {**current, option: value}, f"grid.{axis}")


def _check_model_axis(study: StudyConfig, axis: str, option: str, values: Sequence[Any]) -> None:
    grade = next((one for one in study.grid.grade if not study.is_light(one)), None)
    for value in values if option != "kind" and grade is not None else ():
        for kind in study.kinds:
            study.options(grade or "", {"kind": kind, option: value}, f"grid.{axis}")


def _check_teachers(study: StudyConfig) -> None:
    grid = study.grid
    teachers = [one for one in study.teachers if one.teacher != NO_TEACHER]
    given = [f.name for f in fields(DistillConfig) if f.name not in ("teacher", "student")]
    changed = [
        name for name in given if getattr(study.distill, name) != getattr(DistillConfig(), name)
    ]
    changed += [axis.removeprefix("distill.") for axis in grid.axes if axis.startswith("distill.")]
    if not teachers and (changed or study.distill.student):
        raise UserError('distill.teacher: missing; name a grade, e.g. "SUAN-5"')
    for student in study.distill.students or ():
        if student not in grid.grade:
            raise UserError(
                f"distill.student: {student} is not in the grid{nearest(student, grid.grade)}"
            )
    for one in teachers:
        study.grade(one.teacher, "distill.teacher")
    begun = any(one.teacher_init for one in teachers)
    if not begun and any(one.teacher_samples != "largest" for one in teachers):
        raise UserError(
            "distill.teacher_samples: needs a teacher_init; a teacher from scratch sees the impressions of its student"
        )
    if study.distill.freeze_teacher and not begun:
        raise UserError(
            "distill.freeze_teacher: needs a teacher_init; a teacher from scratch must be trained"
        )
    packings = {study.train.packing, *grid.axes.get("train.packing", ())}
    if teachers and "stretch" in packings:
        raise UserError(
            'distill: a teacher and its student cannot share stretches; set packing = "request" or "none"'
        )
