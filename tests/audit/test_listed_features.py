"""The audit of features with several values per cell and of numbers of events, against plain counts row by row."""

import numpy as np
import pytest
from list_logs import LIST_SCHEMA, write_list_store
from store_edits import edit_array

from scaling.audit import audit_store, summarize_store
from scaling.audit.feature_counts import columns, count_ids
from scaling.cli.app import main
from scaling.metrics import auc_with_stderr
from scaling.store import Events, Feature, Impressions, Schema, open_store, write_store


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return write_list_store(tmp_path_factory.mktemp("lists") / "store")


def padded(store, path, rows):
    return store.lists[path].padded(rows)[0]


def cells_of(store, group, name):
    """The ids of each impression, padded."""
    if group == "profile":
        return padded(store, f"profile/feature.{name}", np.asarray(store.user))
    return padded(store, f"impressions/{group}.{name}", np.arange(store.n_impressions))


LISTS = [("candidate", "tags"), ("context", "words"), ("profile", "interests")]


@pytest.mark.parametrize(("group", "name"), LISTS)
def test_an_impression_counts_for_each_of_its_ids(store, group, name):
    (column,) = (c for c in columns(store) if (c.group, c.name) == (group, name))
    counts = count_ids(store, column)
    expected = np.zeros((2, 2, column.size), dtype=int)
    for row, ids in enumerate(cells_of(store, group, name)):
        for one in ids[ids > 0]:
            expected[int(row >= store.n_train), store.label[row], one] += 1
    np.testing.assert_array_equal(np.stack([counts.train, counts.test]), expected)


@pytest.mark.parametrize(("group", "name"), LISTS)
def test_facts_of_lists(store, group, name):
    (facts,) = (f for f in audit_store(store).features if (f.group, f.name) == (group, name))
    cells = cells_of(store, group, name)
    train, test = cells[: store.n_train], cells[store.n_train :]
    assert facts.values_per_cell == pytest.approx(
        ((cells > 0).sum(1).mean(), (cells > 0).sum(1).max())
    )
    assert facts.unknown_train == pytest.approx((train == 1).sum() / (train > 0).sum())
    assert facts.unknown_test == pytest.approx((test == 1).sum() / (test > 0).sum())
    assert facts.n_values == len(set(train[train > 1].tolist()))


def test_the_auc_of_a_list_is_that_of_its_mean_score(store):
    (facts,) = (f for f in audit_store(store).features if f.name == "tags")
    cells = cells_of(store, "candidate", "tags")
    n, labels = store.n_train, np.asarray(store.label)
    clicks, shown = np.zeros(12), np.zeros(12)
    for ids, label in zip(cells[:n], labels[:n], strict=True):
        clicks[ids[ids > 0]] += label
        shown[ids[ids > 0]] += 1
    score = (clicks + 10 * clicks.sum() / shown.sum()) / (shown + 10)
    scores = np.array([score[ids[ids > 0]].mean() for ids in cells[n:]])
    auc, _ = auc_with_stderr(labels[n:], scores)
    assert facts.auc == pytest.approx(auc, abs=1e-3)


def test_values_per_cell_of_each_array(store):
    found = summarize_store(store)["values_per_cell"]
    assert set(found) == {
        "behaviours/feature.tags",
        "impressions/candidate.tags",
        "impressions/context.words",
        "profile/feature.interests",
    }
    for path, (mean, most) in found.items():
        lengths = np.diff(store.lists[path].offsets)
        assert (mean, most) == (pytest.approx(lengths.mean()), lengths.max())


def test_the_verbs_print_what_cells_hold(store, capsys):
    with pytest.raises(SystemExit, match="0"):
        main(["data", "show", str(store.path)])
    shown = capsys.readouterr().out
    assert "values, at most 4, weighted (mean)" in shown
    assert "values, at most 5 (sum)" in shown
    with pytest.raises(SystemExit, match="0"):
        main(["data", "check", str(store.path)])
    assert "values (most)" in capsys.readouterr().out


def small(path, tags, numbers=None):
    """Impressions of one user and second, whose only difference are the tags and the weights of a number."""
    n = len(tags)
    time = np.repeat([100, 200], [n, 2])
    ids = np.zeros((n + 2, 3), dtype=int)
    ids[n:, 0] = 2
    for row, own in enumerate(tags):
        ids[row, : len(own)] = own
    weights = np.concatenate([numbers or np.zeros(n), [0, 1]]).astype(float)
    tag = Feature("tags", "tag", 3)
    price = Feature("price", "price", 1, "sum", True)
    twos = np.full(n + 2, 2)
    values = {"item": twos, "tags": ids, "price": twos, "price.weights": weights}
    item = Feature("item", "item")
    return write_store(
        path,
        Schema(
            (item, tag, price), (item, tag, price), vocabularies={"item": 3, "tag": 9, "price": 3}
        ),
        Events(np.zeros(n + 2, dtype=int), time, values),
        Impressions(np.zeros(n + 2, dtype=int), time, np.arange(n + 2) % 2, time > 150, values),
        {},
        n_users=1,
        split={"kind": "time", "boundary": 200},
        source={},
    )


@pytest.mark.parametrize(
    ("tags", "numbers", "repeats"),
    [
        ([[2, 3], [2], [3], [2, 3, 4]], None, 0),
        ([[2, 3], [2, 3], [2, 3], [2]], None, 2),
        ([[2, 3], [2, 3]], [0.5, -0.5], 0),
        ([[2, 3], [2, 3]], [0.5, 0.5], 1),
    ],
)
def test_rows_repeat_another_if_their_lists_and_weights_do(tmp_path, tags, numbers, repeats):
    found = audit_store(small(tmp_path / "store", tags, numbers)).duplicates
    assert found.events == repeats
    assert found.impressions + found.contradictions == repeats


def test_a_tag_that_tells_the_label_is_found(tmp_path):
    path = write_list_store(tmp_path / "store").path
    store = open_store(path)
    offsets = np.asarray(store.lists["impressions/candidate.tags"].offsets)

    def told(ids):
        ids = ids.copy()
        for row, label in enumerate(store.label):
            own = slice(offsets[row], offsets[row + 1])
            ids[own] = np.arange(2, 2 + offsets[row + 1] - offsets[row]) + 5 * label
        return ids

    edit_array(path, "impressions/candidate.tags", told)
    audit = audit_store(open_store(path))
    assert any(f.kind == "label" and "candidate tags" in f.message for f in audit.findings)


def test_a_number_of_candidates_is_judged_as_a_number(tmp_path):
    found = small(tmp_path / "store", [[2]] * 40, list(np.linspace(-1, 1, 40)))
    (column,) = (c for c in columns(found) if c.name == "price")
    assert column.values is not None
    np.testing.assert_allclose(column.values(slice(0, 40)), np.linspace(-1, 1, 40), rtol=1e-6)
    assert column.size > 10


def test_the_schema_of_these_tests_has_lists_in_every_group():
    groups = (
        LIST_SCHEMA.behaviour,
        LIST_SCHEMA.candidate,
        LIST_SCHEMA.context,
        LIST_SCHEMA.profile,
    )
    assert all(any(not f.is_plain for f in group) for group in groups)
