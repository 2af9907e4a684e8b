"""`[goal]`: one quantity, one budget, sizes that exist."""

import pytest

from scaling.cli.fit_inputs import JointLaw
from scaling.errors import UserError
from scaling.study import GoalConfig, load_study

GOAL = '[goal]\nquantity = "alpha"\nwidth = 0.1\nflops = 1e12\n'


def with_goal(study_file, goal):
    study_file.write_text(study_file.read_text() + goal)
    return load_study(study_file)


def test_a_goal_is_read(study_file):
    goal = with_goal(study_file, GOAL + "fixed = {E = 0.4}\n").goal
    assert goal == GoalConfig(0.1, "alpha", flops=1e12, fixed={"E": 0.4})
    assert (goal.budget, goal.unit) == (1e12, "FLOPs")


def test_a_metric_at_a_grade_is_a_goal(study_file):
    text = '[goal]\nmetric = "auc"\nat = ["SUAN-5", 1000000]\nwidth = 0.01\ncore_hours = 2.5\n'
    goal = with_goal(study_file, text).goal
    assert (goal.at, goal.budget, goal.unit) == (("SUAN-5", 1_000_000), 2.5, "core-hours")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("0.1", "0.0"), "width is 0.0, expected a positive number"),
        (("flops = 1e12", ""), "expected one budget"),
        (("flops", "core_hours = 1.0\nflops"), "expected one budget"),
        (('quantity = "alpha"', ""), "expected one quantity"),
        (('quantity = "alpha"', 'at = ["SUAN-55", 10]'), "did you mean SUAN-5"),
        (('quantity = "alpha"', 'at = ["SUAN-5", -10]'), "-10 is not a positive size"),
        (("width", "widthh"), "did you mean width"),
        (("flops", 'law = "aditive"\nflops'), "goal.law"),
        (("flops", "fixed = {alpha = 0.3}\nflops"), "alpha is fixed"),
    ],
)
def test_a_bad_goal_is_one_line(study_file, change, message):
    with pytest.raises(UserError, match=message) as caught:
        with_goal(study_file, GOAL.replace(*change))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("law", [law.value for law in JointLaw])
def test_every_joint_law_can_be_pursued(study_file, law):
    assert with_goal(study_file, f'{GOAL}law = "{law}"\n').goal.law == law
