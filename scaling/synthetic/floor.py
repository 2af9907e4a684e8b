"""The floor by rank: the least excess logloss if each item's traits are known through d numbers only.

It is to model size what the Bayes logloss is to the loss of a perfect model: a truth that follows from the world's
tables. It is exact for this class: all other components are known, the traits pass through the best linear
projection on d directions (least squares of the logit), and the components' weights are fitted anew. A model that
represents items otherwise can be better: SUAN embeds an item and its category, so it has up to 2 d numbers.
"""

from collections.abc import Sequence

import numpy as np

from scaling.arrays import Array
from scaling.metrics import entropy
from scaling.synthetic.world import (
    COMPONENTS,
    FIRST_ID,
    IS_FAST,
    Block,
    World,
    click_logit,
    request_interests,
    sigmoid,
)

__all__ = ["RANKS", "excess_by_rank"]


RANKS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128)
_NEWTON_STEPS = 6
# components that depend on the items' traits
_MATCHED = ("profile", "slow_interest", "fast_interest")


def excess_by_rank(
    world: World, blocks: Sequence[Block], ranks: Sequence[int] = RANKS
) -> dict[int, float]:
    """Return the least excess logloss (nats) by the number of directions, estimated on `blocks`.

    The directions are the leading ones of the logit's part that depends on traits: the eigenvectors of
    S^1/2 Z S^1/2 for the candidates' covariance Z and the users' second moment S in logit units.
    """
    standard = np.concatenate([world.standardised(block) for block in blocks])
    traits, users = _traits(world, blocks), _users(world, blocks)
    there, back = _directions(traits, np.sum(list(users.values()), axis=0))
    p = sigmoid(click_logit(world, standard))
    bayes = float(entropy(p).mean())
    mean = traits.mean(axis=0)
    along = (traits - mean) @ there
    offset = {name: user @ mean for name, user in users.items()}
    partial = {name: along * (user @ back.T) for name, user in users.items()}
    names = list(COMPONENTS)
    result = {}
    for rank in ranks:
        known = standard.copy()
        for name in _MATCHED:
            k = names.index(name)
            known[:, k] = offset[name] + partial[name][:, :rank].sum(axis=1)
        result[rank] = _least_loss(known, p) - bayes
    return result


def _traits(world: World, blocks: Sequence[Block]) -> Array:
    """Return the candidates' traits times the factors' amplitudes, [rows, N_FACTORS]."""
    item = np.concatenate([block.candidates["item"] for block in blocks]).astype(np.int64)
    traits: Array = world.taste[item - FIRST_ID] * world.amplitude
    return traits


def _users(world: World, blocks: Sequence[Block]) -> dict[str, Array]:
    """Return for each matched component what the traits are multiplied with, in logit units [rows, N_FACTORS]."""
    interest, person = (
        np.concatenate(parts) for parts in zip(*(_by_row(world, b) for b in blocks), strict=True)
    )
    unit = dict(zip(COMPONENTS, np.array(list(COMPONENTS.values())) / world.scale, strict=True))
    return {
        "profile": person * unit["profile"],
        "slow_interest": interest * ~IS_FAST * unit["slow_interest"],
        "fast_interest": interest * IS_FAST * unit["fast_interest"],
    }


def _by_row(world: World, block: Block) -> tuple[Array, Array]:
    interest, person = request_interests(world, block)
    _, of_row = np.unique(block.request, return_inverse=True)
    return interest[of_row], person[of_row]


def _directions(traits: Array, user: Array) -> tuple[Array, Array]:
    """Return the map of traits to coordinates [N_FACTORS, N_FACTORS], leading ones first, and the map back."""
    values, vectors = np.linalg.eigh(user.T @ user / len(user))
    root = np.sqrt(np.maximum(values, values.max() * 1e-12))
    half = vectors * root @ vectors.T
    inverse = vectors / root @ vectors.T
    _, leading = np.linalg.eigh(half @ np.cov(traits.T) @ half)
    leading = leading[:, ::-1]
    return half @ leading, leading.T @ inverse


def _least_loss(known: Array, p: Array) -> float:
    """Return the least mean cross-entropy of `p` and a logistic regression on `known`, by Newton's method."""
    x = np.column_stack([known, np.ones(len(known))])
    beta = np.zeros(x.shape[1])
    for _ in range(_NEWTON_STEPS):
        q = sigmoid(x @ beta)
        curvature = (x * (q * (1 - q))[:, None]).T @ x
        beta -= np.linalg.solve(curvature, x.T @ (q - p))
    z = x @ beta
    return float((p * np.logaddexp(0, -z) + (1 - p) * np.logaddexp(0, z)).mean())
