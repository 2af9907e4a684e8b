import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scaling.batches import order_key
from scaling.batches.permutation import permuted_rows


@given(n_rows=st.integers(1, 3000), key=st.integers(0, 2**64 - 1))
def test_it_is_a_permutation(n_rows, key):
    rows = permuted_rows(np.arange(n_rows), n_rows, key)
    assert np.array_equal(np.sort(rows), np.arange(n_rows))


@given(n_rows=st.integers(1, 10**9), key=st.integers(0, 2**64 - 1), data=st.data())
def test_a_row_depends_on_its_position_alone(n_rows, key, data):
    """So a smaller subset is a prefix of a larger one, and batches can be cut anywhere."""
    positions = np.array(data.draw(st.lists(st.integers(0, n_rows - 1), min_size=1, max_size=20)))
    together = permuted_rows(positions, n_rows, key)
    alone = [permuted_rows(positions[i : i + 1], n_rows, key)[0] for i in range(len(positions))]
    assert together.tolist() == alone


def test_any_row_is_equally_likely_to_come_first():
    """Chi-squared with 49 degrees of freedom: above 95 in one world of 10,000."""
    n_rows, n_keys = 50, 5000
    first = [permuted_rows(np.zeros(1, np.int64), n_rows, key)[0] for key in range(n_keys)]
    counts = np.bincount(first, minlength=n_rows)
    expected = n_keys / n_rows
    assert ((counts - expected) ** 2 / expected).sum() < 95


def test_positions_and_rows_are_uncorrelated():
    n_rows = 100_000
    positions = np.arange(n_rows)
    for key in range(5):
        r = np.corrcoef(positions, permuted_rows(positions, n_rows, key))[0, 1]
        assert abs(r) < 4.5 / np.sqrt(n_rows)  # standard errors


@pytest.mark.parametrize("other", [("order", 1), ("init", 0), ("order", 0, "SUAN-0")])
def test_keys_differ_with_what_they_are_made_of(other):
    assert order_key("order", 0) != order_key(*other)
