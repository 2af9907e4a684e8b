"""Labels that show in the weights, the number or the sum of a cell's values are found; equal cells are constant."""

import numpy as np
import pytest

from scaling.audit import audit_store
from scaling.store import Events, Feature, Impressions, Schema, write_store

N = 2000


def store_of(path, feature, cells):
    """A store whose impressions have this context feature; `cells(label, rng)` are its ids and weights."""
    rng = np.random.default_rng(0)
    time = np.sort(rng.integers(1_700_000_000, 1_700_100_000, N))
    label = rng.integers(0, 2, N)
    schema = Schema(
        behaviour=(Feature("item", "item"),),
        candidate=(Feature("item", "item"),),
        context=(feature,),
        vocabularies={"item": 50, "tag": 9},
    )
    return write_store(
        path,
        schema,
        Events(
            rng.integers(0, 60, N),
            rng.integers(1_699_000_000, 1_700_100_000, N),
            {"item": rng.integers(2, 50, N)},
        ),
        Impressions(
            rng.integers(0, 60, N),
            time,
            label,
            time >= time[int(0.8 * N)],
            {"item": rng.integers(2, 50, N)},
            cells(label, rng),
        ),
        {},
        n_users=60,
        split={"kind": "time", "boundary": int(time[int(0.8 * N)])},
        source={"kind": "test"},
    )


def by_weight(label, _):
    return {
        "tags": np.tile([2, 3], (N, 1)),
        "tags.weights": np.where(label[:, None], [9.0, 1.0], [1.0, 9.0]),
    }


def by_number(label, rng):
    ids = np.sort(np.argsort(rng.random((N, 7)), 1)[:, :4] + 2, 1)
    ids[label == 0, 2:] = 0
    return {"tags": ids}


def by_sum(label, _):
    return {"tags": np.tile([2, 3], (N, 1)), "tags.weights": 1.0 + label[:, None] * [2.0, 2.0]}


@pytest.mark.parametrize(
    ("feature", "cells", "name"),
    [
        (Feature("tags", "tag", 2, weighted=True), by_weight, "context tags"),
        (Feature("tags", "tag", 4, "sum"), by_number, "cells n_tags"),
        (Feature("tags", "tag", 2, "sum", weighted=True), by_sum, "cells sum_tags"),
    ],
    ids=["weights", "number of values", "sum of weights"],
)
def test_a_label_in_the_cells_is_found(tmp_path, feature, cells, name):
    findings = audit_store(store_of(tmp_path / "store", feature, cells)).findings
    assert f"{name} alone has an AUC of 1.0000: it reveals the label" in [
        f.message for f in findings
    ]


def test_cells_that_are_all_the_same_are_constant(tmp_path):
    store = store_of(
        tmp_path / "store", Feature("tags", "tag", 2), lambda *_: {"tags": np.tile([2, 3], (N, 1))}
    )
    kinds = [finding.kind for finding in audit_store(store).findings]
    assert kinds == ["constant"]


def test_cells_that_differ_are_not_constant(tmp_path):
    def cells(_, rng):
        ids = np.tile([2, 3], (N, 1))
        ids[rng.random(N) < 0.5, 1] = 0
        return {"tags": ids}

    found = audit_store(store_of(tmp_path / "store", Feature("tags", "tag", 2), cells))
    assert found.findings == ()
