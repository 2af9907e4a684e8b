"""Which cells a scan of learning rates trains, and how it is extended."""

import math

import pytest
from small_studies import study_and_facts

from scaling.errors import UserError
from scaling.records import RunStore
from sweeps.planning import choose_scan, grid_cells, make_plan, make_scan, shares_rate, wider

FACTORS = (0.5, 1.0, 2.0)
FIVE = 'grid.grade=["SUAN-0","SUAN-1","SUAN-2","SUAN-3","SUAN-4"]'
SIZES = "grid.n_samples=[80,160,320,640]"


def chosen(study, facts, limit, **how):
    """Choose a scan; it costs a second for each sample."""

    def seconds_of(scan):
        return sum(corner.n_samples for corner in scan.corners) * len(scan.factors)

    how = {"grades": None, "sizes": None, **how}
    return choose_scan(study, facts, FACTORS, seconds_of=seconds_of, limit=limit, **how)


def test_a_scan_that_costs_nothing_spans_the_whole_grid(study_file):
    scan = chosen(*study_and_facts(study_file, FIVE, SIZES), math.inf)
    assert scan.grades == ("SUAN-0", "SUAN-2", "SUAN-4")
    assert scan.sizes == (80, 640)


def test_a_dear_scan_has_smaller_corners(study_file):
    scan = chosen(*study_and_facts(study_file, FIVE, SIZES), 3 * 3 * (80 + 320))
    assert scan.sizes == (80, 320)
    assert scan.grades[0] == "SUAN-0"


def test_the_cheapest_scan_is_chosen_if_none_is_affordable(study_file):
    scan = chosen(*study_and_facts(study_file, FIVE, SIZES), 0.0)
    assert scan.grades == ("SUAN-0", "SUAN-1")
    assert scan.sizes == (80, 160)


def test_what_is_asked_for_is_scanned(study_file):
    scan = chosen(*study_and_facts(study_file, FIVE, SIZES), 0.0, grades=("SUAN-3",), sizes=(100,))
    assert (scan.grades, scan.sizes) == (("SUAN-3",), (100,))


def test_the_runs_are_the_studys_but_for_their_rates(study_file):
    """The cell at once the recipe's rate is the study's own; its law and its further axes make no difference."""
    law = "{learning_rate=0.1,token_width=1,n_samples=1,width_exponent=0.0,samples_exponent=0.0}"
    study, facts = study_and_facts(study_file, 'train.packing="request"')
    other, _ = study_and_facts(
        study_file, 'train.packing="request"', f"train.rate_law={law}", "grid.n_seeds=2",
        'grid.model={norm=["rms","layer"]}',
    )  # fmt: skip
    scan = make_scan(other, facts, ["SUAN-1", "SUAN-0"], [320, 160], FACTORS)
    plan = make_plan(scan.study, facts, RunStore(study_file.parent / "runs" / "tiny-tune"))
    cells = scan.cells(plan, dict.fromkeys(scan.corners, FACTORS))
    own = {cell.signature for cell in grid_cells(study, facts)}
    assert {by_factor[1.0].config.signature for by_factor in cells.values()} == own
    for corner, by_factor in cells.items():
        assert [c.config.learning_rate for c in by_factor.values()] == [
            f * corner.rule for f in FACTORS
        ]


@pytest.mark.parametrize(
    "setting",
    ["train.share_prefix=true", 'train.batch_schedule="growing"', "train.recipe_n_samples=226"],
)
def test_sizes_that_share_a_rate_are_scanned_about_one_rate(study_file, setting):
    study, facts = study_and_facts(study_file, setting)
    scan = make_scan(study, facts, ["SUAN-0"], [160, 320], FACTORS)
    (rule,) = {corner.rule for corner in scan.corners}
    assert rule == grid_cells(study, facts)[0].learning_rate
    assert len({corner.rate_samples for corner in scan.corners}) == 1
    assert shares_rate(study)


def test_a_grade_or_size_that_is_not_there_is_refused(study_file):
    study, facts = study_and_facts(study_file)
    with pytest.raises(UserError, match="--grades: there is no grade SUAN-99"):
        make_scan(study, facts, ["SUAN-99"], [160], FACTORS)
    with pytest.raises(UserError, match="1201 is more than the 1200 training impressions"):
        make_scan(study, facts, ["SUAN-0"], [1201], FACTORS)


def extended(study_file, losses):
    study, facts = study_and_facts(study_file)
    scan = make_scan(study, facts, ["SUAN-0"], [160], FACTORS)
    (factors,) = wider(scan, {scan.corners[0]: losses}).values()
    return factors


@pytest.mark.parametrize(
    ("losses", "factors"),
    [
        ({0.5: 3.0, 1.0: 2.0, 2.0: 2.5}, (0.5, 1.0, 2.0)),
        ({0.5: 1.0, 1.0: 2.0, 2.0: 2.5}, (0.25, 0.5, 1.0, 2.0)),
        ({0.5: 3.0, 1.0: 2.0, 2.0: 1.0}, (0.5, 1.0, 2.0, 4.0)),
        ({0.5: 3.0, 1.0: 2.0, 2.0: math.inf}, (0.5, 1.0, 2.0)),  # diverged, so the best is within
        (dict.fromkeys(FACTORS, math.inf), (0.25, 0.5, 1.0, 2.0)),
        ({2.0**k: -k for k in range(-1, 4)}, (0.5, 1.0, 2.0, 4.0, 8.0)),  # twice extended: no more
        ({2.0**k: k for k in range(-3, 2)}, (0.125, 0.25, 0.5, 1.0, 2.0)),
    ],
)
def test_a_scan_goes_on_at_most_twice_where_its_end_is_best(study_file, losses, factors):
    assert extended(study_file, losses) == factors
