"""A sample of the attack by kills; the whole runs by `make attack-kills`."""

import pytest

from tests.attack.kills import KINDS, rounds


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_cells_that_were_killed_end_as_undisturbed_ones_and_leave_nothing(tmp_path):
    outcomes = list(rounds(1, 5, tmp_path))
    assert {kind for kind, _ in outcomes} == set(KINDS)
    assert [fault for _, outcome in outcomes for fault in outcome.faults] == []
    assert sum(outcome.resumes for _, outcome in outcomes) > 0
