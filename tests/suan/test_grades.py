from itertools import pairwise

import pytest

from models.accounting import model_size
from models.grades import GRADES, Grade
from models.model_options import SuanOptions
from scaling.synthetic import SyntheticConfig, synthetic_schema

SCHEMA = synthetic_schema(SyntheticConfig(n_train=1))


def test_each_step_of_the_ladder_multiplies_parameters_by_two_to_three():
    sizes = [model_size(grade, SuanOptions(), SCHEMA).n_params for grade in GRADES.values()]
    ratios = [after / before for before, after in pairwise(sizes)]
    assert all(2 <= ratio <= 3 for ratio in ratios), ratios


def test_the_ladder_reaches_a_billion_parameters():
    sizes = [model_size(grade, SuanOptions(), SCHEMA) for grade in GRADES.values()]
    assert sizes[0].n_params < 3000
    assert 0.9e9 < sizes[-1].n_params < 1.1e9


def test_history_length_grows_with_the_grade():
    lengths = [grade.max_len for grade in GRADES.values()]
    assert lengths == sorted(set(lengths))


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ((0, 1, 2, 8), "n_layers is 0"),
        ((1, 3, 2, 8), "a divisor of d = 2"),
        ((1, 1, 2, 0), "max_len"),
    ],
)
def test_an_impossible_grade_says_what_is_wrong(sizes, message):
    with pytest.raises(ValueError, match=message):
        Grade(*sizes)
