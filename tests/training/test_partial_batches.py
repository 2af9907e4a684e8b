"""The loss of a step is the mean over its own impressions, of a last partial batch and of packed passes as well."""

import numpy as np
import pytest
import torch
from small_runs import small_config
from torch.nn.functional import binary_cross_entropy_with_logits

from models.model_options import SuanOptions
from scaling.batches import Epoch, find_groups
from scaling.batches.gather import gather_batch
from scaling.training import Training


@pytest.fixture
def trained(tiny_store):
    """Train 40 impressions in batches of 16 at a rate of almost nothing; return the steps' losses, their mean, and that of each impression."""
    torch.set_num_threads(1)

    def train(**changes):
        plain = SuanOptions(pooling="running", positions="start")
        config = small_config(tiny_store, model=plain, n_samples=40, learning_rate=1e-12, **changes)
        training = Training(config, tiny_store)
        epoch = Epoch(config, tiny_store, find_groups(config, tiny_store))
        training.advance(epoch, lambda: None)
        training.settle()
        batch = gather_batch(tiny_store, epoch.rows(), config.max_len)
        with torch.no_grad():
            logits = training.model.eval()(batch)
        losses = binary_cross_entropy_with_logits(logits, batch.label, reduction="none")
        return list(training.losses), training.mean_loss(epoch), losses.numpy()

    return train


# sums of float32 in another order
def test_the_loss_of_a_partial_batch_is_the_mean_over_its_impressions(trained):
    steps, _, each = trained()
    expected = [each[:16].mean(), each[16:32].mean(), each[32:].mean()]
    np.testing.assert_allclose(steps, expected, rtol=1e-5)


def test_the_training_loss_is_the_mean_over_impressions_not_over_steps(trained):
    steps, mean, each = trained()
    assert mean == pytest.approx(each.mean(), rel=1e-6)
    assert abs(np.mean(steps) - mean) > 1e-5


def test_absent_candidates_of_a_pass_do_not_count(trained):
    _, mean, each = trained(packing="request")
    assert mean == pytest.approx(each.mean(), rel=1e-5)
