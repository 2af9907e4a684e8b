import pytest
from hypothesis import given
from hypothesis import strategies as st

from scaling.study import rate_factor, recipe_for, warmup_steps
from scaling.study.recipe import COOLDOWN_TO


@pytest.mark.parametrize(
    ("n_samples", "batch_size"), [(100, 16), (4096, 16), (16_384, 32), (65_536, 128), (10**7, 256)]
)
def test_batches_make_about_512_steps_within_16_to_256(n_samples, batch_size):
    assert recipe_for(n_samples, 48).batch_size == batch_size


@given(n_samples=st.integers(1, 10**12), width=st.integers(1, 4096))
def test_a_wider_model_never_learns_faster(n_samples, width):
    assert (
        recipe_for(n_samples, width + 1).learning_rate <= recipe_for(n_samples, width).learning_rate
    )


def test_the_dense_rate_falls_where_samples_are_few_for_the_dense_parameters():
    """Twice the width has four times the dense parameters and needs four times the samples for its full rate."""
    full, few = recipe_for(65_536, 96), recipe_for(32_768, 96)
    batch = (few.batch_size / full.batch_size) ** 0.25
    assert few.learning_rate / full.learning_rate == pytest.approx(batch * 0.5**0.4)
    assert few.embedding_rate / full.embedding_rate == pytest.approx(batch)


@given(n_steps=st.integers(1, 5000), data=st.data())
def test_the_rate_stays_between_zero_and_the_peak(n_steps, data):
    step = data.draw(st.integers(0, n_steps - 1))
    decay, constant = (
        rate_factor(step, n_steps, warmup_steps(n_steps), schedule)
        for schedule in ("decay", "constant")
    )
    assert 0 < decay <= constant <= 1


def test_decay_ends_at_its_floor():
    assert rate_factor(999, 1000, 100, "decay") == pytest.approx(COOLDOWN_TO, abs=2e-3)


def test_constant_ends_at_the_peak():
    assert rate_factor(999, 1000, 100, "constant") == 1
