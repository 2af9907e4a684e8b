"""Kinds of models as an axis of a study's grid."""

import pytest

from scaling.errors import UserError
from scaling.records import RunStore
from scaling.study import data_facts, load_study
from sweeps.planning import make_plan


@pytest.fixture
def plan(study_file, tmp_path):
    """Plan the small study with further lines."""

    def made(grid="", rest="", overrides=()):
        text = study_file.read_text()
        study_file.write_text(f"{text}{grid}\n{rest}\n")
        study = load_study(study_file, overrides)
        return make_plan(study, data_facts(study.data), RunStore(tmp_path / "runs"))

    return made


KINDS = '"model.kind" = ["suan", "din", "bst"]'


def test_a_kind_without_an_option_occurs_once_for_all_its_values(plan):
    rows = plan(f'{KINDS}\n"model.activation" = ["dice", "relu"]').rows()
    found = [(row["model.kind"], row["model.activation"]) for row in rows[:4]]
    assert found == [("suan", None), ("din", "dice"), ("din", "relu"), ("bst", None)]


def test_an_option_of_the_section_goes_to_the_kinds_that_have_it(plan):
    cells = plan(KINDS, '[model]\npositions = "start"').cells
    options = {cell.config.model.kind: cell.config.model for cell in cells}
    assert options["suan"].positions == "start"
    assert options["bst"].values["positions"] == "start"
    assert "positions" not in options["din"].values


def test_the_rates_of_kinds_multiply_the_recipes(plan):
    cells = plan(KINDS, "[train]\nrate_multiple = 0.5\nrate_of_kind = {din = 4.0}").cells
    rates = {c.config.model.kind: c.config.learning_rate for c in cells[:3]}
    assert rates["din"] == pytest.approx(4 * rates["suan"])
    assert rates["bst"] == rates["suan"]


def test_a_rate_of_a_kind_that_is_not_in_the_grid_is_refused(plan):
    with pytest.raises(UserError, match=r"train.rate_of_kind.dinn: not in the grid, did you mean"):
        plan(KINDS, "[train]\nrate_of_kind = {dinn = 4.0}")


def test_an_option_that_no_kind_has_is_named(plan):
    with pytest.raises(
        UserError, match=r"model.fusoin: unknown key of suan, din, bst, did you mean fusion"
    ):
        plan(KINDS, '[model]\nfusoin = "sum"')


def test_a_light_grade_with_another_kind_is_refused(plan):
    with pytest.raises(UserError, match=r"LightSUAN-0 is a LightSUAN, but model.kind is din"):
        plan(overrides=['model.kind="din"', 'grid.grade=["LightSUAN-0"]'])


def test_a_packing_that_is_not_exact_is_refused_by_the_plan(plan):
    with pytest.raises(UserError, match=r"train.packing: stretch is not exact for this suan"):
        plan(rest='[train]\npacking = "stretch"')
