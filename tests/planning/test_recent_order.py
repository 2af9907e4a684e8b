"""The order in time in a study file: where it makes no sense, one line says why."""

import pytest
from small_studies import plan_of, study_and_facts

from scaling.errors import UserError
from scaling.study import load_study

RECENT = 'train.data_order="recent"'


def test_a_log_that_is_split_by_user_is_refused(study_file):
    with pytest.raises(
        UserError, match=r"train\.data_order: .* split by user; set \"independent\""
    ):
        plan_of(study_file, RECENT)


def test_an_order_in_time_on_the_grid_is_refused_as_well(study_file):
    with pytest.raises(UserError, match=r"train\.data_order: .* split by user"):
        plan_of(study_file, 'grid.train.data_order=["independent", "recent"]')


def test_one_training_for_all_sizes_is_refused(study_file):
    with pytest.raises(
        UserError, match=r"train: share_prefix .* begins later; remove one"
    ) as error:
        load_study(study_file, (RECENT, "train.share_prefix=true"))
    assert "\n" not in str(error.value)


def test_a_misspelt_order_names_the_orders(study_file):
    with pytest.raises(UserError, match="'independent', 'shared' or 'recent'"):
        load_study(study_file, ('train.data_order="latest"',))


def test_the_facts_of_a_store_say_how_it_is_split(study_file):
    assert not study_and_facts(study_file)[1].by_time
