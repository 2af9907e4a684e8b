import json
from dataclasses import replace

import numpy as np
import pytest
from raw_logs import assert_same_files

from scaling.errors import UserError
from scaling.metrics import entropy, soft_auc
from scaling.store import open_store
from scaling.strict_values import from_document
from scaling.synthetic import GENERATOR_VERSION, SyntheticConfig, generate_logs
from scaling.synthetic.logs import build_world
from scaling.synthetic.world import ACTIONS, COMPONENTS, HOUR, MEMORY, PROFILE, RECENT, SHRINKAGE

CONFIG = SyntheticConfig(n_train=3000, n_test=2000, seed=8)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return generate_logs(tmp_path_factory.mktemp("synthetic") / "store", CONFIG)


@pytest.fixture(scope="module")
def world():
    return build_world(CONFIG)


def logit_by_hand(world, store, row):
    """Compute the logit of one impression event by event, from the definition in the docs."""
    user, now = int(store.user[row]), int(store.time[row])
    rows = range(int(store.offsets[user]), int(store.history_end[row]))[-world.window :]
    window = [
        (
            int(store.event_time[r]),
            *(int(store.behaviours[name][r]) - 2 for name in ("item", "category", "action")),
        )
        for r in rows
    ]
    item, own = (int(store.candidates[name][row]) - 2 for name in ("item", "category"))
    weights = [[], []]
    for age, (time, _, category, action) in enumerate(reversed(window), start=1):
        weight = list(ACTIONS.values())[action]
        if age < len(window):
            weight *= world.pair[window[-age - 1][2], category]
        weights[0].append(weight * age**-MEMORY)
        weights[1].append(weight * np.exp(-(now - time) / HOUR))
    taste = world.taste[item] * world.amplitude
    interest = [0.0, 0.0]
    for k in range(len(taste)):
        fast = int(k % 3 == 2)
        total = sum(
            w * world.taste[event[1], k]
            for w, event in zip(weights[fast], reversed(window), strict=True)
        )
        interest[fast] += taste[k] * total / (SHRINKAGE + sum(weights[fast]))
    person = sum(world.profile[name][int(store.profiles[name][user]) - 2] for name in PROFILE)
    count = sum(category == own and now - time <= RECENT for time, _, category, _ in window)
    raw = {
        "item": world.quality[item],
        "profile": taste @ person / 2,
        "slow_interest": interest[0],
        "fast_interest": interest[1],
        "category_count": world.count_sign[own] * np.log1p(count),
        "repeat": any(event[1] == item for event in window),
        "context": world.hour[now // 3600 % 24, own]
        + world.position[int(store.contexts["position"][row]) - 2],
    }
    standard = (np.array([raw[name] for name in COMPONENTS]) - world.mean) / world.scale
    return world.intercept + standard @ np.array(list(COMPONENTS.values()))


@pytest.mark.slow
def test_the_probability_follows_from_the_data_in_the_store(store, world):
    lengths = store.history_end - store.offsets[store.user]
    rows = np.random.default_rng(0).choice(store.n_impressions, 60, replace=False)
    rows = np.concatenate([rows, np.argsort(lengths)[:5], np.argsort(lengths)[-5:]])
    by_hand = [1 / (1 + np.exp(-logit_by_hand(world, store, row))) for row in rows]
    # Stored as float32: half a unit in the last place of numbers below 1.
    np.testing.assert_allclose(store.probability[rows], by_hand, rtol=1.2e-7, atol=0)


def test_the_probability_of_every_row_is_recomputed_from_the_store_alone(store):
    again = build_world(replace(CONFIG, n_train=7, n_test=7)).probability(open_store(store.path))
    np.testing.assert_array_equal(store.probability, again.astype(np.float32))


def test_nothing_outside_the_window_matters(store, world):
    # Changes every event that is older than the window, later, or of another user.
    behaviours = {name: np.array(column) for name, column in store.behaviours.items()}
    row = int(np.argmax(store.history_end - store.offsets[store.user]))
    end = int(store.history_end[row])
    seen = np.zeros(store.n_events, dtype=bool)
    seen[end - world.window : end] = True
    for name in behaviours:
        behaviours[name][~seen] = 2
    changed = world.probability(replace(store, behaviours=behaviours))
    assert changed[row].astype(np.float32) == store.probability[row]
    assert (changed.astype(np.float32) != store.probability).mean() > 0.5


def test_the_truth_follows_from_the_probabilities_of_the_test_part(store):
    p = store.probability[store.n_train :].astype(np.float64)
    expected = {
        "bayes_logloss": entropy(p).mean(),
        "bayes_auc": soft_auc(p, p),
        "base_entropy": entropy(p.mean()),
    }
    # The same sums in another order.
    assert store.truth == pytest.approx(expected, rel=1e-14)


def test_labels_are_drawn_with_the_probability(store):
    p = store.probability.astype(np.float64)
    # Four standard errors, and by tenths of p.
    assert abs((store.label - p).sum()) < 4 * np.sqrt((p * (1 - p)).sum())
    for part in np.array_split(np.argsort(p), 10):
        spread = np.sqrt((p[part] * (1 - p[part])).sum())
        assert abs((store.label[part] - p[part]).sum()) < 4 * spread


def test_the_world_has_the_intended_base_rate_and_difficulty(store):
    assert 0.25 < store.base_rate["test"] < 0.37
    assert 0.85 < store.truth["bayes_auc"] < 0.9
    assert store.truth["base_entropy"] - store.truth["bayes_logloss"] > 0.17


def test_requests_show_eight_to_sixteen_distinct_items_at_one_second(store):
    of_part = store.request[: store.n_train]
    sizes = np.bincount(of_part)
    # The cut at exactly n_train may shorten one request.
    assert (np.sort(sizes)[1:] >= 8).all()
    assert set(np.unique(sizes)) >= set(range(8, 17))
    assert sizes.max() == 16
    pairs = np.stack([store.request, store.candidates["item"]])
    assert np.unique(pairs, axis=1).shape == pairs.shape


def test_histories_are_long_short_and_empty(store):
    lengths = store.history_end - store.offsets[store.user]
    assert (lengths == 0).any()
    assert 0.05 < (lengths < 32).mean() < 0.3
    assert (lengths > CONFIG.window).mean() > 0.2


def test_some_events_share_the_second_of_an_impression_and_stay_unseen(store):
    after = np.flatnonzero(store.history_end < store.offsets[store.user + 1])
    assert (store.event_time[store.history_end[after]] == store.time[after]).any()


def test_no_user_is_in_both_parts(store):
    assert store.split["kind"] == "user"
    assert not np.isin(store.user[: store.n_train], store.user[store.n_train :]).any()
    open_store(store.path, verify=True)


@pytest.mark.slow
def test_the_same_config_gives_the_same_bytes_and_another_seed_another_log(tmp_path):
    small = SyntheticConfig(n_train=200, n_test=100, n_items=500, warmup_events=10)
    first, second = (generate_logs(tmp_path / name, small) for name in "ab")
    assert_same_files(first, second)
    assert generate_logs(tmp_path / "c", replace(small, seed=1)).fingerprint != first.fingerprint


@pytest.mark.slow
def test_a_larger_log_holds_the_smaller_one_and_the_same_test_part(store, tmp_path):
    larger = generate_logs(tmp_path / "larger", replace(CONFIG, n_train=5000))

    def rows(of, part):
        columns = [of.time, *of.candidates.values(), *of.contexts.values(), of.label]
        return set(
            zip(*(column[part].tolist() for column in [*columns, of.probability]), strict=True)
        )

    n = store.n_train
    assert rows(store, slice(0, n)) < rows(larger, slice(0, 5000))
    assert rows(store, slice(n, None)) == rows(larger, slice(5000, None))
    assert larger.truth == pytest.approx(store.truth, rel=1e-12)


def test_the_window_is_the_horizon_of_the_truth(tmp_path):
    config = replace(CONFIG, n_train=100, n_test=100, window=3)
    store = generate_logs(tmp_path / "store", config)
    world = build_world(config)
    row = int(np.argmax(store.history_end))
    p = 1 / (1 + np.exp(-logit_by_hand(world, store, row)))
    assert store.probability[row] == pytest.approx(p, rel=1.2e-7)


def test_the_source_has_the_config_that_makes_the_log_again(store):
    document = json.loads((store.path / "dataset.json").read_text())
    assert SyntheticConfig(**document["source"]["config"]) == CONFIG


@pytest.mark.parametrize("change", [{"n_train": 0}, {"n_test": 0}, {"window": 0}, {"n_items": 5}])
def test_sizes_that_cannot_make_a_log_are_refused(change):
    with pytest.raises(ValueError, match="or more"):
        replace(CONFIG, **change)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"n_itmes": 5000}, "n_itmes: unknown key, did you mean n_items?"),
        ({"n_train": "3000"}, "n_train: input should be a valid integer, got '3000'"),
        ({"n_train": 3000.0}, "n_train: input should be a valid integer, got 3000.0"),
        ({"seed": True}, "seed: input should be a valid integer, got True"),
        ({"n_items": 5}, "n_items is 5, expected 100 or more"),
    ],
)
def test_a_study_cannot_set_an_unknown_or_wrong_setting(change, expected):
    with pytest.raises(UserError) as caught:
        from_document(SyntheticConfig, {"n_train": 3000} | change, "study.toml: data.generate")
    assert str(caught.value).startswith("study.toml: data.generate: ")
    assert expected in str(caught.value)


def test_one_test_impression_has_no_auc_to_reach(tmp_path):
    config = SyntheticConfig(n_train=50, n_test=1, n_items=200, warmup_events=10)
    store = generate_logs(tmp_path / "store", config)
    assert sorted(store.truth) == ["base_entropy", "bayes_logloss"]
    open_store(store.path, verify=True)


def test_the_source_has_the_version_of_the_generator(store):
    assert store.source["version"] == GENERATOR_VERSION


def test_an_existing_folder_is_refused_before_any_work(tmp_path):
    with pytest.raises(UserError, match="already exists"):
        generate_logs(tmp_path, CONFIG)
