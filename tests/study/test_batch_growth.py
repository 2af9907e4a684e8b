import pytest
from hypothesis import given
from hypothesis import strategies as st

from scaling.study import batch_phases, count_steps
from scaling.study.batch_growth import samples_seen

SIZES = st.integers(1, 3_000_000)
BATCHES = st.integers(1, 600)
SCHEDULES = st.sampled_from(["fixed", "growing"])


def steps(n_samples, batch_size, schedule):
    """The batch of each step, one after the other."""
    sizes = []
    for phase in batch_phases(n_samples, batch_size, schedule):
        at = phase.first
        while at < phase.end:
            sizes.append(min(phase.batch_size, phase.end - at))
            at += phase.batch_size
    return sizes


@given(SIZES, BATCHES, SCHEDULES)
def test_the_steps_see_each_sample_once(n_samples, batch_size, schedule):
    sizes = steps(n_samples, batch_size, schedule)
    assert sum(sizes) == n_samples
    assert len(sizes) == count_steps(n_samples, batch_size, schedule)
    assert max(sizes) <= batch_size


@pytest.mark.slow
@given(SIZES, SIZES, BATCHES, SCHEDULES)
def test_a_smaller_epoch_begins_like_a_larger_one(one, other, batch_size, schedule):
    small, large = sorted([one, other])
    first = steps(small, batch_size, schedule)
    assert first[:-1] == steps(large, batch_size, schedule)[: len(first) - 1]


@given(SIZES, BATCHES, SCHEDULES, st.floats(0, 1))
def test_samples_seen_sums_the_batches(n_samples, batch_size, schedule, share):
    sizes = steps(n_samples, batch_size, schedule)
    step = round(share * len(sizes))
    assert samples_seen(step, n_samples, batch_size, schedule) == sum(sizes[:step])


def test_a_growing_batch_gives_each_data_size_hundreds_of_steps_and_the_recipes_batch_at_the_end():
    for n_samples, batch in ((4_096, 16), (16_384, 32), (65_536, 128), (4_194_304, 256)):
        assert batch_phases(n_samples, 256, "growing")[-1].batch_size == batch
        assert count_steps(n_samples, 256, "growing") >= 256


@pytest.mark.parametrize("schedule", ["fixed", "growing"])
def test_phases_double_up_to_the_largest_batch(schedule):
    sizes = [phase.batch_size for phase in batch_phases(10_000_000, 256, schedule)]
    assert sizes == ([256] if schedule == "fixed" else [16, 32, 64, 128, 256])
