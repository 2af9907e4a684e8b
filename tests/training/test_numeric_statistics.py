"""Numeric features are normalised by the whole batch of a step, however it is divided."""

import numpy as np
import pytest
import torch
from rank_processes import losses_and_logits, rank_config, run_ranks
from slow_cases import fast_only
from store_logs import make_log, write_log

import scaling.training.loop
from models.accounting import MemoryUse
from models.layers import StepNorm
from scaling.batches import Epoch, find_groups
from scaling.training import ALONE, Training


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return write_log(
        tmp_path_factory.mktemp("numeric") / "log",
        make_log(n_events=2000, n_impressions=800, n_users=40, last_second=60),
    )


def trained(config, store):
    training = Training(config, store)
    training.advance(Epoch(config, store, find_groups(config, store)), lambda: None)
    return training


@pytest.mark.parametrize("kind", fast_only(["plain"], ["plain", "request", "distilled"]))
def test_the_parts_of_a_batch_change_no_number(kind, store, monkeypatch):
    config = rank_config(store, kind, n_samples=256)
    whole = trained(config, store).losses
    monkeypatch.setattr(scaling.training.loop, "memory_use", lambda *_: MemoryUse(10))
    np.testing.assert_allclose(trained(config, store).losses, whole, rtol=0, atol=1e-6)


@pytest.mark.slow
def test_two_ranks_normalise_as_one(store, tmp_path):
    arguments = (str(store.path), ["plain", "request"], 256)
    ours = run_ranks(losses_and_logits, 2, tmp_path, *arguments)[0]
    alone = losses_and_logits(ALONE, *arguments)
    for kind in arguments[1]:
        for one, other, tolerance in zip(ours[kind], alone[kind], (1e-6, 2e-5), strict=True):
            np.testing.assert_allclose(one, other, rtol=0, atol=tolerance)


@pytest.mark.parametrize("kind", ["plain", "request"])
def test_the_statistics_of_a_step_are_those_of_its_impressions(kind, store):
    config = rank_config(store, kind, n_samples=64, batch_size=64)
    price = store.numerics["price"][Epoch(config, store, find_groups(config, store)).rows()]
    norm = trained(config, store).model.normalize_numeric
    assert norm.running_mean.item() == pytest.approx(0.1 * price.mean(), abs=1e-6)
    assert norm.running_var.item() == pytest.approx(0.9 + 0.1 * price.var(ddof=1), abs=1e-6)


def test_a_batch_in_one_part_is_normalised_as_torch_does():
    x = torch.randn(20, 3) * 5 + 2
    ours, reference = StepNorm(3), torch.nn.BatchNorm1d(3)
    rows = x.double()
    ours.see(rows.sum(0), rows.square().sum(0), 20)
    torch.testing.assert_close(ours(x), reference(x), rtol=0, atol=1e-5)
    for name, value in reference.state_dict().items():
        if name != "num_batches_tracked":
            torch.testing.assert_close(ours.state_dict()[name], value, rtol=0, atol=1e-5)
