"""Where each value of one cell comes from: the study file, the grid, the ladder, the recipe or a default."""

from collections.abc import Sequence
from dataclasses import asdict

from models.model_options import settings_of_model
from scaling.study import RunConfig, StudyConfig
from scaling.study_keys.value_origins import Setting, flat

__all__ = ["settings_of_cell"]


# Fields that have a place in [grid].
_OF_GRID = {"grade_name": "grid.grade", "n_samples": "grid.n_samples", "seed": "grid.n_seeds"}


def settings_of_cell(
    study: StudyConfig, settings: Sequence[Setting], config: RunConfig
) -> list[Setting]:
    """Return every value of a cell, except its labels, in the order of the code.

    Args:
        study: the study, as planned.
        settings: its keys, of `settings_of`.
        config: the cell.
    """
    place = {one.key: one.origin for one in settings}
    document = asdict(config)
    del document["schema_version"]
    document["data_fingerprint"] = config.data_fingerprint or None  # before the store is generated
    document["model"] = settings_of_model(config.model)
    if config.distill is None:
        del document["distill"]
    else:
        document["distill"]["model"] = settings_of_model(config.distill.model)
    return [
        Setting(key, value, _origin(study, place, config, key)) for key, value in flat(document)
    ]


def _origin(study: StudyConfig, place: dict[str, str], config: RunConfig, key: str) -> str:
    section, _, name = key.partition(".")
    if key in _OF_GRID:
        return _at(place, _OF_GRID[key])
    if key == "data_fingerprint":
        return f"the store, {_at(place, 'data.path')}"
    if section == "grade":
        return _of_grade(study, place, config.grade_name, name)
    if key == "model.kind" and study.is_light(config.grade_name):
        return _at(place, "grid.grade")
    if section == "model":
        return _of_option(study, place, f"model.{name}")
    if section == "distill":
        return _of_teacher(study, place, name)
    if key == "warmup_steps":
        return _recipe(study)
    if key in ("batch_size", "learning_rate", "embedding_rate"):
        return _of_rate(study, place, key)
    return _of_option(study, place, f"train.{key}")


def _of_grade(study: StudyConfig, place: dict[str, str], grade: str, size: str) -> str:
    """The origin of a size of a grade: the study's own one, or the ladder."""
    own = grade if grade in study.grades else grade.removeprefix("Light")
    return _at(place, f"grades.{own}.{size}") if own in study.grades else "the ladder"


def _of_rate(study: StudyConfig, place: dict[str, str], name: str) -> str:
    """The origin of a batch size or a rate, which the recipe sets unless the study does."""
    found = _recipe(study)
    if f"train.{name}" in study.grid.axes or getattr(study.train, name) is not None:
        found = _of_option(study, place, f"train.{name}")
    elif name == "learning_rate" and study.train.rate_law is not None:
        found = "train.rate_law"
    if name == "learning_rate":
        for factor in ("train.rate_multiple", "train.rate_of_kind"):
            option = factor.partition(".")[2]
            if factor in study.grid.axes or getattr(study.train, option) not in (1.0, {}):
                found += f", times {factor}"
    return found


def _of_option(study: StudyConfig, place: dict[str, str], key: str) -> str:
    if key in study.grid.axes:
        return _at(place, f"grid.{key}")
    where = place.get(key, "default")
    return "default" if where == "default" else _at(place, key)


def _of_teacher(study: StudyConfig, place: dict[str, str], name: str) -> str:
    first = name.partition(".")[0]
    if first == "learning_rate":
        return _recipe(study)
    if first in ("teacher", "teacher_name", "model"):
        return _of_option(study, place, "distill.teacher")
    return _of_option(study, place, f"distill.{first}")


def _recipe(study: StudyConfig) -> str:
    return f"recipe {study.train.recipe or 2}"


def _at(place: dict[str, str], key: str) -> str:
    """The key and its line."""
    where = place.get(key, "default")
    return f"{key}, {where}"
