from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from scaling.synthetic import SyntheticConfig
from scaling.synthetic.floor import excess_by_rank
from scaling.synthetic.logs import _calibrated
from scaling.synthetic.world import COMPONENTS, N_FACTORS, click_components

CONFIG = SyntheticConfig(n_train=100, n_items=300, window=16, warmup_events=10)


@pytest.fixture(scope="module")
def calibrated():
    return _calibrated(CONFIG)


def test_the_floor_falls_with_the_rank_and_is_zero_if_all_directions_are_known(calibrated):
    floor = excess_by_rank(*calibrated, ranks=(1, 2, 4, 8, 32, N_FACTORS))
    values = list(floor.values())
    assert all(low > high for low, high in pairwise(values))
    # The true logits are clipped at 12, those of the regression are not.
    assert abs(values[-1]) < 1e-7


def test_traits_in_three_directions_need_rank_three(calibrated):
    world, blocks = calibrated
    rng = np.random.default_rng(0)
    flat = rng.normal(size=(len(world.taste), 3)) @ rng.normal(size=(3, N_FACTORS))
    world = replace(world, taste=flat / np.sqrt(3))
    raw = np.concatenate([click_components(world, block) for block in blocks])
    world = replace(world, mean=raw.mean(axis=0), scale=raw.std(axis=0))
    floor = excess_by_rank(world, blocks, ranks=(2, 3))
    assert floor[2] > 1e-3
    assert abs(floor[3]) < 1e-7


def test_without_the_matched_components_no_rank_costs_anything(calibrated, monkeypatch):
    world, blocks = calibrated
    for name in ("profile", "slow_interest", "fast_interest"):
        monkeypatch.setitem(COMPONENTS, name, 1e-9)
    assert abs(excess_by_rank(world, blocks, ranks=(1,))[1]) < 1e-7


def test_the_store_states_the_floor_of_its_world(tmp_path, calibrated):
    from scaling.synthetic import generate_logs

    store = generate_logs(tmp_path / "store", CONFIG)
    expected = {str(rank): excess for rank, excess in excess_by_rank(*calibrated).items()}
    assert store.source["excess_logloss_by_rank"] == expected
