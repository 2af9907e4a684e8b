"""Negatives follow a documented rule, which is computed here in plain Python, without the engine."""

import random
from bisect import bisect_right
from collections import Counter
from itertools import accumulate

import pytest

from scaling.errors import UserError
from scaling.importers import import_logs
from scaling.store import open_store

START = 1_700_000_000
TOML = """
[events]
files = ["events.csv"]
user = "user"
time = "time"
item = "item"
[features]
behaviour = ["item", "action"]
candidate = ["item", "category"]
context = ["hour"]
[negatives]
per_positive = 3
draw = "{draw}"
seed = {seed}
[split]
test_fraction = 0.25
"""


def make_events(n=400, seed=0, seconds=714):
    rng = random.Random(seed)
    return [
        (
            f"u{rng.randrange(12):02d}",
            START + rng.randrange(seconds),
            f"i{int(rng.random() ** 2 * 30):02d}",
            rng.choice(["view", "buy"]),
        )
        for _ in range(n)
    ]


def write_raw(folder, events, draw="popularity", seed=5, more=""):
    folder.mkdir()
    rows = "".join(f"{u},{t},{i},{a},c{int(i[1:]) % 4}\n" for u, t, i, a in events)
    (folder / "events.csv").write_text("user,time,item,action,category\n" + rows)
    (folder / "log.toml").write_text(TOML.format(draw=draw, seed=seed) + more)
    return folder


def mix(h):
    """The 32-bit finaliser of MurmurHash3."""
    h ^= h >> 16
    h = h * 0x85EBCA6B & 0xFFFFFFFF
    h ^= h >> 13
    h = h * 0xC2B2AE35 & 0xFFFFFFFF
    return h ^ h >> 16


def drawn(salt, *parts):
    h = salt
    for part in parts:
        h = mix(h ^ part & 0xFFFFFFFF)
    return h


def expected_negatives(positives, everything, boundary, draw, seed):
    """Return (user, time, item) of every negative."""
    users = sorted({u for u, *_ in positives})
    taken = {(u, t, i) for u, t, i, _ in positives}
    result = []
    for in_test in (False, True):
        mine = [row for row in positives if (row[1] >= boundary) == in_test]
        counts = Counter(i for _, _, i, _ in mine)
        pool = sorted(counts)
        firsts = [0, *accumulate(counts[i] for i in pool)][:-1]
        for u, t, i, _ in mine:
            for j in range(3):
                parts = (seed, users.index(u), t, t >> 32, pool.index(i), j)
                number = drawn(0, *parts) << 32 | drawn(1, *parts)
                if draw == "uniform":
                    item = pool[number % len(pool)]
                else:
                    item = pool[bisect_right(firsts, number % len(mine)) - 1]
                if (u, t, item) not in taken:
                    result.append((u, t, item))
    return sorted(result)


def decoded(store, events, boundary):
    """Return the impressions of each label as (user, time, item); an item that is not in the training part is ""."""
    users = sorted({u for u, *_ in events})
    items = sorted({i for _, t, i, _ in events if t < boundary})
    return [
        sorted(
            (
                users[store.user[row]],
                int(store.time[row]),
                items[store.candidates["item"][row] - 2]
                if store.candidates["item"][row] > 1
                else "",
            )
            for row in range(store.n_impressions)
            if store.label[row] == label
        )
        for label in (0, 1)
    ]


@pytest.mark.parametrize("draw", ["popularity", "uniform"])
def test_draws_follow_the_stated_rule(tmp_path, draw):
    events = make_events()
    store = import_logs("table", write_raw(tmp_path / "raw", events, draw), tmp_path / "out")
    open_store(store.path, verify=True)
    boundary = store.split["boundary"]
    negatives, positives = decoded(store, events, boundary)
    known = {i for _, t, i, _ in events if t < boundary}

    def shown(rows):
        return sorted((u, t, i if i in known else "") for u, t, i, *_ in rows)

    assert positives == shown(events)
    assert negatives == shown(expected_negatives(events, events, boundary, draw, 5))
    rows = store.source["rows"]["negatives"]
    assert rows["read"] == 3 * len(events)
    assert rows["kept"] == len(negatives)


def test_a_drawn_item_has_its_own_features(tmp_path):
    store = import_logs("table", write_raw(tmp_path / "raw", make_events()), tmp_path / "out")
    pairs = set(zip(store.candidates["item"], store.candidates["category"], strict=True))
    assert len(pairs) == len({item for item, _ in pairs})


def test_the_seed_and_only_the_seed_changes_the_draws(tmp_path):
    events = make_events()
    first = import_logs("table", write_raw(tmp_path / "a", events), tmp_path / "oa")
    again = import_logs("table", write_raw(tmp_path / "b", events[::-1]), tmp_path / "ob")
    other = import_logs("table", write_raw(tmp_path / "c", events, seed=6), tmp_path / "oc")
    assert first.fingerprint == again.fingerprint
    assert first.fingerprint != other.fingerprint
    assert first.label.sum() == other.label.sum()


def test_draws_by_popularity_have_the_frequencies_of_the_clicks(tmp_path):
    # 12,000 draws against 4,000 clicks; a draw of the clicked item itself is dropped.
    events = make_events(4000, seconds=10**6)
    store = import_logs("table", write_raw(tmp_path / "raw", events), tmp_path / "out")
    item, label = (array[: store.n_train] for array in (store.candidates["item"], store.label))
    clicks, draws = (Counter(item[label == value].tolist()) for value in (1, 0))
    share = {i: n / clicks.total() for i, n in clicks.items()}
    for i, p in share.items():
        expected = 3 * clicks.total() * p * (1 - p)
        # Five standard deviations of a count.
        assert draws[i] == pytest.approx(expected, abs=5 * expected**0.5 + 5)


def test_events_that_are_not_positive_are_only_history(tmp_path):
    events = make_events()
    positive = 'positive = { column = "action", equals = ["buy"] }'
    raw = write_raw(tmp_path / "raw", events)
    toml = raw / "log.toml"
    toml.write_text(toml.read_text().replace("[negatives]", "[negatives]\n" + positive))
    store = import_logs("table", raw, tmp_path / "out")
    bought = sum(action == "buy" for *_, action in events)
    assert store.label.sum() == bought
    assert store.n_events == len(events)
    assert store.source["rows"]["impressions"]["dropped"] == {
        "events that are no positive": len(events) - bought
    }


def test_negatives_need_items(tmp_path):
    raw = write_raw(tmp_path / "raw", make_events())
    toml = raw / "log.toml"
    toml.write_text(toml.read_text().replace('item = "item"\n', ""))
    with pytest.raises(UserError, match=r"negatives: .* item"):
        import_logs("table", raw, tmp_path / "out")
