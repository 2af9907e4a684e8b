"""The report's section on a pursuit."""

from dataclasses import replace

from analysis.report.page import Paragraph, Table
from analysis.report.sections.pursuit_rounds import pursuit_section
from scaling.records import PursuitRound

FIRST = PursuitRound(
    number=1,
    time="2026-01-01T00:00:00+00:00",
    kind="narrow",
    quantity="alpha",
    goal_width=0.1,
    status="converged",
    n_runs=11,
    estimate=0.5,
    lower=None,
    upper=0.9,
    level=0.95,
    claims=False,
    cells=("a", "b"),
    labels=("W2 D=10 s0", "W2 D=20 s0"),
    expected_width=0.2,
    cost=1e9,
    spent=2e9,
    budget=1e10,
    unit="FLOPs",
    next_claims=True,
    next_level=0.975,
    is_reached=False,
    reason="narrows most",
)
END = replace(
    FIRST,
    number=2,
    kind="end",
    n_runs=13,
    lower=0.46,
    upper=0.54,
    level=0.975,
    claims=True,
    cells=(),
    labels=(),
    expected_width=None,
    is_reached=True,
    reason="the interval is narrow enough",
)


def rows(rounds):
    (table,) = (part for part in pursuit_section(rounds).parts if isinstance(part, Table))
    return table.rows


def verdict(rounds):
    return [part.text for part in pursuit_section(rounds).parts if isinstance(part, Paragraph)][-1]


def test_there_is_no_section_without_a_pursuit():
    assert not pursuit_section([]).parts


def test_a_round_shows_an_open_interval_and_that_it_claims_nothing():
    assert rows([FIRST])[0][1:8] == [
        "11",
        "0.5 [open, 0.9]",
        "–",
        "95%, not a claim",
        "2 cells for 1e+09",
        "0.2",
        "2e+09",
    ]


def test_the_text_promises_an_error_rate_and_no_level_that_the_rows_do_not_have():
    text = pursuit_section([FIRST, END]).parts[0].text
    assert "95 % interval" not in text
    assert "misses the truth in at most 5 % of pursuits" in text


def test_the_last_round_of_a_pursuit_that_reached_its_goal_states_interval_and_level():
    assert verdict([FIRST, END]) == "Reached: 0.5 [0.46, 0.54] at a level of 97.50%."


def test_a_pursuit_that_goes_on_and_one_that_failed_say_so():
    assert verdict([FIRST]).startswith("The pursuit has not ended")
    spent = replace(END, is_reached=False, reason="the budget is spent")
    assert verdict([FIRST, spent]) == "Not reached: the budget is spent."
