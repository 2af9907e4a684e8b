"""The world of generated logs: its hidden tables, and the exact click probability of an impression.

The probability is a deterministic function of the world's tables and of data in the store: the last `window` events
before the impression, the user's profile, the candidate and its context. It does not depend on a hidden state of
the user. So a model that knew the tables could predict it exactly, and the Bayes logloss is exact. What users
do, and when, is in `scaling.synthetic.users`; the least loss of a small representation in `scaling.synthetic.floor`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from scaling.arrays import Array
from scaling.store import EventStore

__all__ = [
    "ACTIONS",
    "COMPONENTS",
    "IS_FAST",
    "PROFILE",
    "Block",
    "World",
    "click_components",
    "click_logit",
    "draw_world",
    "request_interests",
]


FIRST_ID = 2  # ids 0 and 1 are padding and unknown
N_FACTORS, N_DEPARTMENTS, N_CATEGORIES, PAIR_RANK = 128, 25, 100, 8
# Items' traits lie in many directions of nearly equal effect, so that each step in a model's width pays.
SPECTRUM = 0.3  # factor k has amplitude k^-SPECTRUM
# Shares of an item's traits, and of its quality, that come from its department, its category and itself. What many
# rows share is learnt from few samples, the rest item by item: the learning curves fall over three decades of data.
TRAIT_SHARES = (0.5, 0.25, 0.25)
QUALITY_SHARES = (0.8, 0.2)  # of category and item
# The k-th most popular item is met with a probability proportional to k^-ZIPF; category sizes fall as 1/rank.
ZIPF = 1.1
MEMORY = 0.75  # the j-th last event weighs j^-MEMORY in the slow factors: longer histories see more
IS_FAST = np.arange(N_FACTORS) % 3 == 2  # factors of the current interest; the others are slow
# decay of the fast factors and horizon of the category count, in seconds
HOUR, RECENT = 3600, 2 * 86_400
PAIR = 0.5  # log-scale of the effect of the previous event's category on an event's weight
SHRINKAGE = 0.5  # added to the sum of weights, so that a short history counts less
ACTIONS = {"view": 0.4, "click": 1.0, "order": 2.0}  # weight of an event by its action
PROFILE = {"age": 7, "gender": 2, "city": 50, "device": 4}
POSITIONS = 16
# Weight of each standardised component in the logit, whose standard deviation is then about 2.
COMPONENTS = {
    "item": 0.6,
    "profile": 0.5,
    "slow_interest": 1.5,
    "fast_interest": 0.3,
    "category_count": 0.3,
    "repeat": 0.3,
    "context": 0.4,
}
CHUNK = 64  # requests processed together: their [CHUNK, window, N_FACTORS] vectors stay in cache


@dataclass(frozen=True)
class Block:
    """The log of a block of users in memory; fields as in `EventStore`, impressions sorted by user."""

    offsets: Array
    event_time: Array
    behaviours: dict[str, Array]
    user: Array
    time: Array
    history_end: Array
    request: Array
    candidates: dict[str, Array]
    contexts: dict[str, Array]
    profiles: dict[str, Array]


@dataclass(frozen=True)
class World:
    """Hidden tables, indexed by id minus `FIRST_ID`; they do not depend on the number of impressions."""

    window: int
    popularity: Array  # [n_items] cumulative probability of meeting an item
    category: Array  # [n_items] int64
    taste: Array  # [n_items, N_FACTORS] position of an item in the latent space
    amplitude: Array  # [N_FACTORS], sum of squares 1
    quality: Array  # [n_items]
    profile: dict[str, Array]  # [values, N_FACTORS] by field
    pair: Array  # [N_CATEGORIES, N_CATEGORIES] factor on an event's weight, by previous and own category
    count_sign: Array  # [N_CATEGORIES] +1: interest grows with use, -1: interest declines with use
    hour: Array  # [24, N_CATEGORIES]
    position: Array  # [POSITIONS]
    mean: Array  # [COMPONENTS] mean of each raw component over a calibration log
    scale: Array  # [COMPONENTS] its standard deviation there
    intercept: float

    def standardised(self, observed: Block | EventStore) -> Array:
        """Return the components of the logit of every impression, mean 0 and deviation 1, [n, COMPONENTS]."""
        components: Array = (click_components(self, observed) - self.mean) / self.scale
        return components

    def probability(self, observed: Block | EventStore) -> Array:
        """Return the click probability of every impression, float64 [n_impressions]."""
        return sigmoid(click_logit(self, self.standardised(observed)))


def click_logit(world: World, standardised: Array) -> Array:
    """Return the logit of clicks [n] from the standardised components [n, COMPONENTS]."""
    # The clip keeps every probability strictly between 0 and 1 in float32.
    weights = np.array(list(COMPONENTS.values()))
    logit: Array = np.clip(standardised @ weights + world.intercept, -12, 12)
    return logit


def sigmoid(logit: Array) -> Array:
    """Return 1 / (1 + e^-logit)."""
    p: Array = 1 / (1 + np.exp(-logit))
    return p


def draw_world(seed: np.random.SeedSequence, n_items: int, window: int) -> World:
    """Draw the tables from `seed`, not yet calibrated (mean 0, scale 1, intercept 0)."""
    rng = np.random.default_rng(seed)
    sizes = 1 / np.arange(1, N_CATEGORIES + 1)
    category = rng.choice(N_CATEGORIES, n_items, p=sizes / sizes.sum())
    department = rng.integers(0, N_DEPARTMENTS, N_CATEGORIES)[category]
    rows = ((N_DEPARTMENTS, department), (N_CATEGORIES, category), (n_items, slice(None)))
    taste = _sum_of_shares(
        TRAIT_SHARES, [rng.normal(size=(n, N_FACTORS))[of_item] for n, of_item in rows]
    )
    quality = _sum_of_shares(
        QUALITY_SHARES, [rng.normal(size=n)[of_item] for n, of_item in rows[1:]]
    )
    amplitude = np.arange(1, N_FACTORS + 1) ** -SPECTRUM
    popularity = np.cumsum(np.arange(1, n_items + 1) ** -ZIPF)
    after, before = rng.normal(size=(2, N_CATEGORIES, PAIR_RANK))
    affinity = np.clip(after @ before.T / np.sqrt(PAIR_RANK), -2.5, 2.5)
    n_components = len(COMPONENTS)
    return World(
        window=window,
        popularity=popularity / popularity[-1],
        category=category,
        taste=taste,
        amplitude=amplitude / np.sqrt((amplitude**2).sum()),
        quality=quality,
        profile={name: rng.normal(size=(size, N_FACTORS)) for name, size in PROFILE.items()},
        pair=np.exp(PAIR * affinity),
        count_sign=rng.choice([-1.0, 1.0], N_CATEGORIES),
        hour=rng.normal(size=(24, 1)) + rng.normal(size=(24, N_CATEGORIES)),
        position=-np.log2(np.arange(1, POSITIONS + 1)),
        mean=np.zeros(n_components),
        scale=np.ones(n_components),
        intercept=0.0,
    )


def _sum_of_shares(shares: Sequence[float], parts: Sequence[Array]) -> Array:
    """Return the sum of independent parts of variance 1, each with its share of the variance."""
    total: Array = sum(np.sqrt(share) * part for share, part in zip(shares, parts, strict=True))
    return total


def click_components(world: World, observed: Block | EventStore) -> Array:
    """Return the raw components of the logit, float64 [n_impressions, COMPONENTS].

    The user's interest is U_k = sum_j w_j z_jk / (SHRINKAGE + sum_j w_j) over the window's events j (j = 1 is the
    newest), with w_j = decay x action weight x pair factor. The decay is j^-MEMORY for the slow factors and
    exp(-age / HOUR) for the fast ones (every third). An interest component is sum_k a_k z_ck U_k.
    """
    first, ends = _requests(observed)
    out = np.empty((len(observed.user), len(COMPONENTS)))
    for chunk in _chunks(len(first)):
        rows = slice(int(first[chunk.start]), int(ends[chunk.stop - 1]))
        of_row = np.repeat(np.arange(chunk.stop - chunk.start), ends[chunk] - first[chunk])
        out[rows] = _components(world, observed, first[chunk], rows, of_row)
    return out


def request_interests(world: World, observed: Block | EventStore) -> tuple[Array, Array]:
    """Return the interest U and the profile's traits of each request, both [requests, N_FACTORS]."""
    first, _ = _requests(observed)
    both = [
        (
            _Windows(world, observed, first[chunk]).interest(world),
            _person(world, observed, first[chunk]),
        )
        for chunk in _chunks(len(first))
    ]
    return np.concatenate([u for u, _ in both]), np.concatenate([p for _, p in both])


def _requests(observed: Block | EventStore) -> tuple[Array, Array]:
    """Return the first row of each request and the row after its last."""
    first = np.flatnonzero(np.diff(observed.request, prepend=observed.request[:1] - 1))
    return first, np.append(first, len(observed.user))[1:]


class _Windows:
    """The last `window` events before each request, newest first, each array [requests, window]."""

    def __init__(self, world: World, seen: Block | EventStore, first: Array) -> None:
        user = seen.user[first].astype(np.int64)
        index = seen.history_end[first][:, None] - 1 - np.arange(world.window)
        self.valid = index >= seen.offsets[user][:, None]
        index = np.where(self.valid, index, 0)
        self.age = np.where(self.valid, seen.time[first][:, None] - seen.event_time[index], 0)
        self.item, self.category, self.action = (
            np.where(self.valid, seen.behaviours[name][index].astype(np.int64) - FIRST_ID, 0)
            for name in ("item", "category", "action")
        )

    def interest(self, world: World) -> Array:
        """Return U [requests, N_FACTORS]."""
        weight = self.valid * np.array(list(ACTIONS.values()))[self.action]
        # The oldest event in the window has no previous event, so its pair factor is 1.
        pair = world.pair[self.category[:, 1:], self.category[:, :-1]]
        weight[:, :-1] *= np.where(self.valid[:, 1:], pair, 1.0)
        slow = weight * np.arange(1, world.window + 1) ** -MEMORY
        fast = weight * np.exp(-self.age / HOUR)
        both = np.stack([slow, fast], axis=1)
        summed = both @ world.taste[self.item] / (SHRINKAGE + both.sum(axis=2, keepdims=True))
        interest: Array = np.where(IS_FAST, summed[:, 1], summed[:, 0])
        return interest


def _person(world: World, seen: Block | EventStore, first: Array) -> Array:
    user = seen.user[first].astype(np.int64)
    summed = sum(
        world.profile[name][seen.profiles[name][user].astype(np.int64) - FIRST_ID]
        for name in world.profile
    )
    person: Array = summed / np.sqrt(len(world.profile))
    return person


def _components(
    world: World, seen: Block | EventStore, first: Array, rows: slice, of_row: Array
) -> Array:
    """Return the components of `rows` [rows, COMPONENTS]; row i is in request `of_row[i]`, which starts at `first`."""
    window = _Windows(world, seen, first)
    candidate = seen.candidates["item"][rows].astype(np.int64) - FIRST_ID
    own = seen.candidates["category"][rows].astype(np.int64) - FIRST_ID
    taste = world.taste[candidate] * world.amplitude
    matched = taste * window.interest(world)[of_row]
    recent = window.valid & (window.age <= RECENT)
    count = ((window.category[of_row] == own[:, None]) & recent[of_row]).sum(axis=1)
    hour = seen.contexts["hour"][rows].astype(np.int64) - FIRST_ID
    position = seen.contexts["position"][rows].astype(np.int64) - FIRST_ID
    repeated = (window.item[of_row] == candidate[:, None]) & window.valid[of_row]
    return np.column_stack(
        [
            world.quality[candidate],
            (taste * _person(world, seen, first)[of_row]).sum(axis=1),
            matched[:, ~IS_FAST].sum(axis=1),
            matched[:, IS_FAST].sum(axis=1),
            world.count_sign[own] * np.log1p(count),
            repeated.any(axis=1),
            world.hour[hour, own] + world.position[position],
        ]
    )


def _chunks(n: int) -> Iterator[slice]:
    for start in range(0, n, CHUNK):
        yield slice(start, min(start + CHUNK, n))
