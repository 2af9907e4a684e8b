"""Nested training subsets: the first n of a seeded permutation of the training part, for any n.

The permutation is computed position by position (a Feistel network with cycle walking), so that its
memory does not grow with the data, and a smaller subset is a prefix of a larger one by construction.
"""

import hashlib

import numpy as np
from numpy.typing import NDArray

__all__ = ["order_key", "permuted_rows"]


_ROUNDS = 8


def order_key(*parts: object) -> int:
    """Return a 64-bit key from the values that determine the order."""
    text = "\x1f".join(str(part) for part in parts)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")


def permuted_rows(positions: NDArray[np.int64], n_rows: int, key: int) -> NDArray[np.int64]:
    """Return the rows at `positions` of the permutation of `range(n_rows)` named by `key`.

    Args:
        positions: in `[0, n_rows)`, any shape.
        n_rows: rows to permute.
        key: two keys give unrelated permutations.
    """
    rows = _encipher(positions.astype(np.uint64), n_rows, key)
    while (outside := rows >= n_rows).any():
        # Cycle walking: repeating a bijection on a power of two until it lands inside permutes range(n_rows).
        rows[outside] = _encipher(rows[outside], n_rows, key)
    return rows.astype(np.int64)


def _encipher(values: NDArray[np.uint64], n_rows: int, key: int) -> NDArray[np.uint64]:
    n_bits = max(2, (n_rows - 1).bit_length())
    low_bits = np.uint64(n_bits // 2)
    low_mask = np.uint64((1 << (n_bits // 2)) - 1)
    high_mask = np.uint64((1 << (n_bits - n_bits // 2)) - 1)
    low, high = values & low_mask, values >> low_bits
    keys = np.random.SeedSequence(key).generate_state(_ROUNDS, np.uint64)
    for index in range(0, _ROUNDS, 2):
        high ^= _mix(low ^ keys[index]) & high_mask
        low ^= _mix(high ^ keys[index + 1]) & low_mask
    return (high << low_bits) | low


def _mix(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The finaliser of SplitMix64 (Steele, Lea and Flood, 2014)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
