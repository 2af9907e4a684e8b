"""What plans say of the memory of cells that several processes train together."""

import re
from dataclasses import replace

import pytest

from models.grades import GRADES
from models.model_options import SuanOptions
from scaling.errors import UserError
from scaling.store import Feature, Schema
from scaling.study import Distillation, RunConfig
from sweeps.planning import shares_table, steps_in_parts
from sweeps.planning.cost_estimate import Estimate
from sweeps.planning.several_ranks import check_memory, on_ranks

ITEM = (Feature("item", "item"),)
# 10^8 rows of d = 64: 71.5 GiB of values and moments
SCHEMA = Schema(
    behaviour=ITEM, candidate=ITEM, context=(), profile=(), numeric=(), vocabularies={"item": 10**8}
)
LARGE = RunConfig(
    "SUAN-9", GRADES["SUAN-9"], SuanOptions(), 512, 0, 256, 0.003, "constant", "shared", "f" * 64, 2
)


def test_a_table_over_half_of_a_device_is_divided_by_several_ranks_only():
    assert shares_table(LARGE, SCHEMA, 2, 80)
    assert not shares_table(LARGE, SCHEMA, 1, 80)
    assert not shares_table(LARGE, SCHEMA, 2, 160)
    assert not shares_table(LARGE, SCHEMA, 2, None)


def test_a_cell_that_does_not_fit_is_refused_with_the_devices_that_would_hold_it():
    with pytest.raises(UserError, match="more than device_memory_gib = 24") as refusal:
        check_memory(LARGE, SCHEMA, 2, 24)
    enough = int(re.search(r"; (\d+) devices", str(refusal.value))[1])
    check_memory(LARGE, SCHEMA, enough, 24)
    with pytest.raises(UserError):
        check_memory(LARGE, SCHEMA, enough - 1, 24)


def test_no_number_of_devices_holds_a_model_that_is_too_large_for_one():
    with pytest.raises(UserError, match="raise device_memory_gib"):
        check_memory(LARGE, SCHEMA, 64, 0.01)


def test_steps_are_divided_where_the_memory_asks_for_it():
    small = Schema(**{**vars(SCHEMA), "vocabularies": {"item": 1000}})
    assert steps_in_parts(LARGE, small, 1, 10_000) == (1, False)
    n_parts, recomputes = steps_in_parts(LARGE, small, 1, 4)
    assert n_parts > 1
    assert recomputes
    # a share of the batch fits where the whole does not
    assert steps_in_parts(LARGE, small, 256, 4)[0] == 1


def test_a_table_of_its_own_of_the_teacher_counts():
    def with_teacher(*, shares):
        teacher = Distillation(
            "SUAN-9", GRADES["SUAN-9"], SuanOptions(), 0.003, 1.0, 1.0, share_embeddings=shares
        )
        return replace(LARGE, distill=teacher)

    own = LARGE.held_size(SCHEMA)
    shared, apart = (with_teacher(shares=shares).held_size(SCHEMA) for shares in (True, False))
    assert shared.table_bytes == own.table_bytes
    assert apart.table_bytes == 2 * own.table_bytes
    assert shared.n_params == apart.n_params == 2 * own.n_params


def test_ranks_that_divide_the_table_need_less_memory():
    guess = Estimate(8.0, 1.0, 10.0, "guess")
    assert on_ranks(guess, 4, 8 * 2**30).memory_gib == pytest.approx(4.0)
    assert on_ranks(guess, 4).memory_gib == 10.0
