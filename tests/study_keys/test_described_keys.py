"""The descriptions of the keys are those of the code, complete, and hold."""

from dataclasses import fields

import pytest

from models.grades import Grade
from scaling.errors import UserError
from scaling.strict_values import from_document
from scaling.study import (
    DistillConfig,
    GoalConfig,
    RunOptions,
    SlurmConfig,
    StudyConfig,
    TrainConfig,
)
from scaling.study_keys import described_sections, kind_sections

SECTIONS = {section.name: section for section in described_sections()}
TYPES = {
    "train": TrainConfig,
    "distill": DistillConfig,
    "slurm": SlurmConfig,
    "run": RunOptions,
}
OF_SECTIONS = [(s, k) for s in (*described_sections(), *kind_sections()) for k in s.keys]


def key_of(section, name):
    return next(key for key in SECTIONS[section].keys if key.name == name)


def test_every_section_of_a_study_is_described():
    assert {f.name for f in fields(StudyConfig)} == {name.split(".")[0] for name in SECTIONS}


@pytest.mark.parametrize(
    ("section", "key"), OF_SECTIONS, ids=[f"{s.name}.{k.name}" for s, k in OF_SECTIONS]
)
def test_every_key_says_what_holds_without_it(section, key):
    assert key.is_required or key.default is not None or key.otherwise
    assert key.meaning.endswith((".", ")"))
    assert "None" not in key.meaning


@pytest.mark.parametrize("name", TYPES)
def test_the_defaults_are_those_of_the_code(name):
    made = TYPES[name]()
    assert all(
        getattr(made, key.name) == key.default
        for key in SECTIONS[name].keys
        if key.default is not None
    )


@pytest.mark.parametrize(
    ("section", "name", "valid"),
    [
        ("train", "batch_size", "a positive number"),
        ("model", "dropout", "0 <= dropout < 1"),
        ("run", "answer_seconds", "1 to 86400 (a day)"),
        ("distill", "weight", "a number from 0 to 1e+06"),
        ("grades.NAME", "n_layers", "at least 1"),
        ("train.rate_law", "width_exponent", "a number between -3 and 3"),
        ("slurm", "gpus", "0 or more"),
        ("data.generate", "n_items", "100 or more"),
    ],
)
def test_the_valid_numbers_are_those_of_the_refusal(section, name, valid):
    assert key_of(section, name).valid == valid


@pytest.mark.parametrize("name", TYPES)
def test_only_the_choices_are_accepted(name):
    chosen = [key for key in SECTIONS[name].keys if key.choices and key.kind != "boolean"]
    for key in chosen:
        for choice in key.choices:
            value = int(choice) if choice.isdigit() else choice.strip('"')
            from_document(TYPES[name], {key.name: value}, "")
        with pytest.raises(UserError, match=key.name):
            from_document(TYPES[name], {key.name: "neither"}, "")


def test_a_required_key_is_missed():
    for name, kind in (("grades.NAME", Grade), ("goal", GoalConfig)):
        needed = [key.name for key in SECTIONS[name].keys if key.is_required]
        with pytest.raises(UserError, match=f"{needed[0]}: missing"):
            from_document(kind, {}, "")


def test_a_key_of_one_grade_has_the_meaning_of_the_general_one():
    general, own = key_of("slurm", "cpus"), key_of("slurm.grades.NAME", "cpus")
    assert own.meaning == general.meaning
    assert own.otherwise == "as in `[slurm]`"
