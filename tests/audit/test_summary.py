"""What `scaling data show` prints and draws, compared with counts made row by row."""

from collections import Counter
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise

import numpy as np
import pytest

from scaling.audit import plot_store, summarize_store
from scaling.audit.picture import plot_days, plot_history_lengths
from scaling.audit.summary import Day, count_days, count_history_lengths, nested_sizes
from scaling.store import Events, Feature, Impressions, Schema, write_store


def write(path, times, labels, utc_offset_seconds=0, n_events=50):
    rng = np.random.default_rng(0)
    n = len(times)
    item = Feature("item", "item")
    return write_store(
        path,
        Schema(behaviour=(item,), candidate=(item,), vocabularies={"item": 9}),
        Events(
            rng.integers(0, 4, n_events),
            rng.choice(times, n_events),
            {"item": rng.integers(1, 9, n_events)},
        ),
        Impressions(
            user=rng.integers(0, 4, n),
            time=np.asarray(times),
            label=np.asarray(labels),
            in_test=np.asarray(times) >= np.sort(times)[-n // 4],
            candidates={"item": rng.integers(1, 9, n)},
        ),
        {},
        n_users=4,
        split={"kind": "time", "boundary": int(np.sort(times)[-n // 4])},
        source={"kind": "test"},
        utc_offset_seconds=utc_offset_seconds,
    )


@pytest.fixture
def store(tmp_path):
    rng = np.random.default_rng(1)
    return write(
        tmp_path / "s", 1_700_000_000 + rng.integers(0, 86_400 * 9, 400), np.arange(400) % 3 == 0
    )


def test_days_are_those_of_the_logs_own_zone(tmp_path):
    # 1494000000 is 2017-05-06 00:00 in Shanghai and 16:00 of the day before in UTC.
    times = [1_493_999_999, 1_494_000_000, 1_494_000_001, 1_494_086_400]
    days = count_days(write(tmp_path / "s", times, [1, 0, 1, 0], 8 * 3600))
    assert days == [
        Day(date(2017, 5, 5), 1, 1),
        Day(date(2017, 5, 6), 2, 1),
        Day(date(2017, 5, 7), 1, 0),
    ]


def test_days_add_up(store):
    days = Counter(datetime.fromtimestamp(t, tz=UTC).date() for t in store.time.tolist())
    assert {day.date: day.impressions for day in count_days(store)} == dict(days)
    assert sum(day.clicks for day in count_days(store)) == store.label.sum()


def test_history_lengths_are_counted_one_by_one(store):
    lengths = [
        int(((store.event_time[store.offsets[u] : store.offsets[u + 1]]) < t).sum())
        for u, t in zip(store.user, store.time, strict=True)
    ]
    assert count_history_lengths(store).tolist() == np.bincount(lengths).tolist()


def test_nested_sizes_halve_until_the_rarer_class_is_too_small(tiny_store):
    sizes = nested_sizes(tiny_store)
    rate = tiny_store.base_rate["train"]
    assert sizes[-1] == tiny_store.n_train
    assert all(small == large // 2 for small, large in pairwise(sizes))
    assert sizes[0] * min(rate, 1 - rate) >= 100 > sizes[0] // 2 * min(rate, 1 - rate)


def test_the_summary_holds_days_and_sizes_as_plain_json(store):
    document = summarize_store(store)
    assert sum(day["impressions"] for day in document["days"]) == 400
    assert document["nested_sizes"] == [300]
    assert document["utc_offset_seconds"] == 0


def test_bars_are_the_shares_of_the_impressions(store):
    ax = plot_history_lengths(store, plot_store(store).axes[0])
    bars = [bar.get_height() for bar in ax.patches[len(ax.patches) // 2 :]]
    counts = count_history_lengths(store)
    expected = [counts[0], counts[1], counts[2:4].sum(), counts[4:8].sum(), counts[8:16].sum()]
    assert bars[:5] == pytest.approx([n / 400 for n in expected])
    assert sum(bars) == pytest.approx(1)


def test_many_days_are_drawn_in_periods_and_none_is_lost(store):
    days = [Day(date(2000, 1, 1) + timedelta(days=3 * i), i + 1, 0) for i in range(500)]
    ax = plot_days(days, plot_store(store).axes[1])
    # 1,498 days in periods of 13, drawn as means per day.
    assert "mean of 13 days" in ax.get_ylabel()
    drawn = sum(bar.get_height() * 13 for bar in ax.patches[-116:])
    assert drawn == pytest.approx(sum(day.impressions for day in days))
