"""Users of generated logs: what they browse and are shown, one block of users at a time.

A user's interest is the sum of a profile part, a private part and a drift with one time constant per factor. It
decides which items the user meets and is shown. Clicks do not depend on it directly, only on the events it caused.
"""

import numpy as np

from scaling.arrays import Array
from scaling.synthetic.world import FIRST_ID, N_FACTORS, PROFILE, Block, World

__all__ = ["BUSY_SECONDS", "START", "simulate_block"]


USERS = 128  # users per block; part of the definition of a log, so not to be tuned
# first second (2024-01-01 UTC); every user starts within these days
START, DAYS = 1_704_067_200, 30
BUSY_SECONDS = 60 * 86_400  # nearly all requests are within this time after START
POOL, CHOOSINESS = 6, 2.0  # items met before one is chosen; weight of the interest in that choice
SESSION_GAP, BREAK_GAP = 120, 72_000  # median seconds between two steps
BREAK_RATE = 0.15  # share of steps after a break
TIE_RATE = 0.03  # share of events in the same second as the step before
NEWCOMERS = 0.03  # share of users without any history at their first request
CANDIDATES, REQUESTS = (8, 16), (4, 12)  # per request, per user
BETWEEN = 8  # mean number of events between two requests
SLOWEST, FASTEST = 200, 3  # time constants of the first and the last factor's drift, in events
ORDERS, CLICKS = 0.05, 0.25  # share of events that are orders and clicks


def simulate_block(world: World, warmup_events: int, rng: np.random.Generator) -> Block:
    """Return the log of `USERS` users in `world`, drawn with `rng`, without clicks."""
    is_request, n_steps = _schedule(warmup_events, rng)
    profiles = {name: rng.integers(0, size, USERS) for name, size in PROFILE.items()}
    time = _times(is_request, rng)
    item, affinity, interest = _browse(
        world, is_request, n_steps, _constant_interest(world, profiles, rng), rng
    )

    user, step = np.nonzero(~is_request & (np.arange(is_request.shape[1]) < n_steps[:, None]))
    noise = affinity[user, step] + rng.normal(size=len(user))
    rank = np.argsort(np.argsort(noise, kind="stable"), kind="stable") / len(user)
    chosen = item[user, step]
    action = (rank > 1 - ORDERS - CLICKS).astype(np.int64) + (rank > 1 - ORDERS)
    events = _ids(item=chosen, category=world.category[chosen], action=action)
    # Sorted as in a store: by (user, time), and by content within a second.
    order = np.lexsort(
        [events["action"], events["category"], events["item"], time[user, step], user]
    )
    event_user, event_time = user[order], time[user, step][order]

    of_request = np.nonzero(is_request)
    shown, position, of_row = _show_candidates(world, interest, rng)
    row_user, row_time = of_request[0][of_row], time[of_request][of_row]
    span = int(time.max()) + 1
    return Block(
        offsets=np.searchsorted(event_user, np.arange(USERS + 1)),
        event_time=event_time,
        behaviours={name: column[order] for name, column in events.items()},
        user=row_user.astype(np.int32),
        time=row_time,
        history_end=np.searchsorted(event_user * span + event_time, row_user * span + row_time),
        request=of_row,
        candidates=_ids(item=shown, category=world.category[shown]),
        contexts=_ids(position=position, hour=row_time // 3600 % 24),
        profiles=_ids(**profiles),
    )


def _ids(**columns: Array) -> dict[str, Array]:
    # int32 saves half the memory: a long log is in memory until it is sorted and written.
    return {name: (column + FIRST_ID).astype(np.int32) for name, column in columns.items()}


def _schedule(warmup_events: int, rng: np.random.Generator) -> tuple[Array, Array]:
    """Return which steps are requests, bool [USERS, steps], and the number of steps of each user, int64 [USERS].

    Each user starts with warm-up events; then requests and runs of events alternate. The last step is a request.
    """
    warmup = np.exp(rng.normal(np.log(warmup_events), 1.0, USERS)).astype(np.int64)
    warmup = np.minimum(warmup, 5 * warmup_events) * (rng.random(USERS) > NEWCOMERS)
    between = 1 + rng.poisson(BETWEEN - 1, (USERS, REQUESTS[1]))
    between[:, 0] = warmup
    at = np.cumsum(between, axis=1) + np.arange(REQUESTS[1])
    happens = np.arange(REQUESTS[1]) < rng.integers(REQUESTS[0], REQUESTS[1] + 1, USERS)[:, None]
    n_steps = np.where(happens, at, 0).max(axis=1) + 1
    is_request = np.zeros((USERS, int(n_steps.max())), dtype=bool)
    is_request[np.nonzero(happens)[0], at[happens]] = True
    return is_request, n_steps


def _times(is_request: Array, rng: np.random.Generator) -> Array:
    """Return the unix second of each step, int64 [USERS, steps]: minutes apart in a session, a day at a break."""
    shape = is_request.shape
    away = rng.random(shape) < BREAK_RATE
    gap = np.exp(rng.normal(size=shape) * np.where(away, 0.5, 1.0)) * np.where(
        away, BREAK_GAP, SESSION_GAP
    )
    gap[rng.random(shape) < TIE_RATE] = 0
    # A request is at least one second after the event before it; an event may be in the same second as a request.
    gap = np.maximum(gap.astype(np.int64), is_request)
    times: Array = START + rng.integers(0, DAYS * 86_400, (shape[0], 1)) + np.cumsum(gap, axis=1)
    return times


def _constant_interest(world: World, profiles: dict[str, Array], rng: np.random.Generator) -> Array:
    """Return the constant part of each user's interest, float32 [USERS, N_FACTORS]."""
    shared = sum(world.profile[name][values] for name, values in profiles.items())
    private = rng.normal(size=(USERS, N_FACTORS))
    base: Array = 0.6 * shared / np.sqrt(len(profiles)) + 0.8 * private
    return base.astype(np.float32)


def _browse(
    world: World, is_request: Array, n_steps: Array, base: Array, rng: np.random.Generator
) -> tuple[Array, Array, Array]:
    """Simulate the drift of the interests and the users' choices, step by step.

    Returns:
        The chosen item and its affinity at each step [USERS, steps], and the interest at each request
        [requests, N_FACTORS] in the order of `np.nonzero(is_request)`.
    """
    steps = is_request.shape[1]
    item = np.zeros((USERS, steps), dtype=np.int64)
    affinity = np.zeros((USERS, steps), dtype=np.float32)
    at_request = np.zeros((USERS, REQUESTS[1], N_FACTORS), dtype=np.float32)
    nth_request = np.cumsum(is_request, axis=1) - 1
    constants = np.geomspace(SLOWEST, FASTEST, N_FACTORS)
    keep = np.exp(-1 / constants).astype(np.float32)
    renew = np.sqrt(1 - keep**2)
    taste = (world.taste * world.amplitude).astype(np.float32)
    drift = rng.standard_normal((USERS, N_FACTORS), dtype=np.float32)
    # Sorted by number of steps, so that the users who are still active are a prefix.
    users = np.argsort(-n_steps, kind="stable")
    for step in range(steps):
        active = users[: np.count_nonzero(n_steps > step)]
        fresh = rng.standard_normal((len(active), N_FACTORS), dtype=np.float32)
        drift[active] = keep * drift[active] + renew * fresh
        interest = base[active] + drift[active]
        met = np.searchsorted(world.popularity, rng.random((len(active), POOL)))
        score = np.matmul(taste[met], interest[:, :, None])[:, :, 0]
        best = np.argmax(CHOOSINESS * score + rng.gumbel(size=score.shape), axis=1)[:, None]
        item[active, step] = np.take_along_axis(met, best, axis=1)[:, 0]
        affinity[active, step] = np.take_along_axis(score, best, axis=1)[:, 0]
        asking = is_request[active, step]
        at_request[active[asking], nth_request[active[asking], step]] = interest[asking]
    user, step_of = np.nonzero(is_request)
    return item, affinity, at_request[user, nth_request[user, step_of]]


def _show_candidates(
    world: World, interest: Array, rng: np.random.Generator
) -> tuple[Array, Array, Array]:
    """Return item, position and request of every impression, each [impressions]; items of a request are distinct.

    Each request meets `3 * CANDIDATES[1]` items and shows those with the best noisy affinity, in random order.
    """
    n = len(interest)
    met = np.searchsorted(world.popularity, rng.random((n, 3 * CANDIDATES[1])))
    taste = (world.taste * world.amplitude).astype(np.float32)
    score = np.matmul(taste[met], interest[:, :, None])[:, :, 0] + rng.gumbel(size=met.shape)
    by_item = np.argsort(met, axis=1, kind="stable")
    ordered = np.take_along_axis(met, by_item, axis=1)
    again = np.zeros(met.shape, dtype=bool)
    np.put_along_axis(again, by_item[:, 1:], ordered[:, 1:] == ordered[:, :-1], axis=1)
    score[again] = -np.inf
    best = np.argsort(-score, axis=1, kind="stable")[:, : CANDIDATES[1]]
    best = rng.permuted(best, axis=1)
    wanted = rng.integers(CANDIDATES[0], CANDIDATES[1] + 1, n)
    distinct = np.isfinite(np.take_along_axis(score, best, axis=1))
    kept = distinct & (np.cumsum(distinct, axis=1) <= wanted[:, None])
    request, column = np.nonzero(kept)
    position = (np.cumsum(kept, axis=1) - 1)[request, column]
    return met[request, best[request, column]], position, request
