"""Negatives follow a documented rule, which is computed here in plain Python, without the engine."""

import random
from bisect import bisect_right
from collections import Counter
from itertools import accumulate

import pytest
from slow_cases import fast_only

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


def ids_of(store, path):
    """The ids of each cell of a feature with several values."""
    lists = store.lists[path]
    return [row[row > 0] for row in lists.padded(range(len(lists)))[0]]


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


@pytest.mark.parametrize("positive", ["", 'positive = { column = "action", equals = ["buy"] }'])
@pytest.mark.parametrize("lists", ["", "[lists.category]\nmax_values = 2\n"])
@pytest.mark.parametrize("shards", fast_only([None], [None, 3]))
def test_without_items_only_drawn_ones_have_the_smallest_value(
    tmp_path, caplog, positive, lists, shards
):
    events = make_events()
    raw = write_raw(tmp_path / "raw", events, more=lists)
    # the place of an item among its rows, so that each row of an item has another value
    n, lines = Counter(), []
    for u, t, i, a in events:
        lines.append(f"{u},{t},{i},{a},c{n[i] + 10}\n")
        n[i] += 1
    (raw / "events.csv").write_text("user,time,item,action,category\n" + "".join(lines))
    toml = raw / "log.toml"
    text = toml.read_text().replace('"action"]', '"action", "category"]', 1)
    toml.write_text(text.replace("[negatives]", f"[negatives]\n{positive}"))
    with caplog.at_level("INFO"):
        store = import_logs("table", raw, tmp_path / "out", shards=shards)
    assert "found their item" not in caplog.text
    if lists:
        candidates = [row.tolist() for row in ids_of(store, "impressions/candidate.category")]
        behaviours = [row.tolist() for row in ids_of(store, "behaviours/feature.category")]
    else:
        candidates = [[int(one)] for one in store.candidates["category"]]
        behaviours = [[int(one)] for one in store.behaviours["category"]]
    boundary = store.split["boundary"]
    known = sorted(
        {
            c
            for line in lines
            if int(line.split(",")[1]) < boundary
            for c in [line.strip().split(",")[4]]
        }
    )

    def shown(c):
        return [known.index(c) + 2 if c in known else 1]

    rows = [line.strip().split(",") for line in lines]
    clicked = [row for row in rows if not positive or row[3] == "buy"]
    of_label = {
        label: [c for c, own in zip(candidates, store.label, strict=True) if own == label]
        for label in (0, 1)
    }
    assert sorted(of_label[1]) == sorted(shown(row[4]) for row in clicked)
    assert sorted(behaviours) == sorted(shown(row[4]) for row in rows)
    assert set(map(tuple, of_label[0])) == {tuple(shown("c10"))}


def test_negatives_need_items(tmp_path):
    raw = write_raw(tmp_path / "raw", make_events())
    toml = raw / "log.toml"
    toml.write_text(toml.read_text().replace('item = "item"\n', ""))
    with pytest.raises(UserError, match=r"negatives: .* item"):
        import_logs("table", raw, tmp_path / "out")
