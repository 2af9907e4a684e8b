"""Features with several values per cell, or with weights, in batches and models: gather, pooling, packing, serving, costs."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from list_logs import LIST_SCHEMA, write_list_store
from random_models import random_model
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from models.embeddings import FeatureEmbeddings, weight_columns
from models.grades import Grade
from models.input_schema import n_columns
from models.kinds.building import build_model
from models.kinds.known_kinds import KINDS, size_of
from models.kinds.measured_size import empty_batch
from models.model_options import EncoderOptions, OptionError, SuanOptions
from models.scoring import Candidates, History, Scorer
from models.scoring.request import SchemaError
from scaling.batches.gather import columns_of, gather_batch, gather_packed
from scaling.store import Feature

GRADE = Grade(2, 2, 8, 12)
SUAN = SuanOptions()
START = SuanOptions(pooling="running", positions="start")


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return write_list_store(tmp_path_factory.mktemp("lists") / "store")


def made_of(store, options=SUAN):
    return random_model(GRADE, options, store.schema)


def scored(model, batch):
    """Logits in float64."""
    return model(replace(batch, numeric=batch.numeric.double())).detach()


def cells_by_hand(store, path, row):
    """A cell's ids and weights, read without the code under test."""
    array = np.load(store.path / f"{path}.npy")
    begin, end = row, row + 1
    offsets, weights = (store.path / f"{path}.{end}.npy" for end in ("offsets", "weights"))
    if offsets.exists():
        begin, end = np.load(offsets)[row : row + 2]
    ids = array[begin:end]
    return ids, np.load(weights)[begin:end] if weights.exists() else np.ones(len(ids))


def embedded_by_hand(store, table, group, prefix, row):
    """The embeddings of a row's cells, one by one."""
    first, n_before = {}, 0
    for name, size in store.schema.vocabularies.items():
        first[name] = n_before
        n_before += size - 1
    found = []
    for feature in getattr(store.schema, group):
        ids, weights = cells_by_hand(store, f"{prefix}{feature.name}", row)
        total = sum(
            weight * table[first[feature.vocabulary] + int(one)]
            for one, weight in zip(ids, weights, strict=True)
        )
        found.append(total / weights.sum() if feature.pooling == "mean" else total)
    return torch.stack(found)


@pytest.mark.parametrize(
    ("group", "prefix", "n"),
    [
        ("behaviour", "behaviours/feature.", 400),
        ("candidate", "impressions/candidate.", 600),
        ("context", "impressions/context.", 600),
        ("profile", "profile/feature.", 40),
    ],
)
def test_cells_are_pooled_as_by_hand(store, group, prefix, n):
    table = FeatureEmbeddings(store.schema, 8, 0.1).double()
    rows = np.arange(0, n, 7)
    columns = torch.from_numpy(columns_of(store, group, rows))
    assert columns.shape == (len(rows), n_columns(getattr(store.schema, group)))
    pooled = table.pooled({group: columns})[group]
    expected = [embedded_by_hand(store, table.weight, group, prefix, row) for row in rows]
    # weights are float32
    assert (pooled - torch.stack(expected)).abs().max() < 1e-7


def test_padding_is_zero_and_gets_no_gradient(store):
    table = FeatureEmbeddings(store.schema, 8, 0.1)
    pooled = table.pooled({"behaviour": torch.zeros(2, 3, 6, dtype=torch.int64)})["behaviour"]
    assert pooled.abs().max() == 0
    pooled.sum().backward()
    assert table.weight.grad.to_dense().abs().max() == 0


def test_gradients_are_those_of_dense_sums(store):
    table = FeatureEmbeddings(store.schema, 8, 0.1).double()
    columns = {
        group: torch.from_numpy(columns_of(store, group, np.arange(30)))
        for group in ("behaviour", "candidate", "context", "profile")
    }
    loss = sum((part**2).sum() for part in table.pooled(columns).values())
    loss.backward()
    dense = table.weight.detach().clone().requires_grad_(True)
    expected = 0
    for group, own in columns.items():
        cells = table.cells[group]
        each = F.embedding(table.rows(group, own), dense) * cells.shares(own).unsqueeze(-1)
        expected = expected + sum(
            (part.sum(-2) ** 2).sum() for part in each.split(list(cells.lengths), -2)
        )
    expected.backward()
    dense.grad[0] = 0
    torch.testing.assert_close(table.weight.grad.to_dense(), dense.grad, rtol=1e-10, atol=1e-12)


def test_weights_come_back_from_their_columns():
    weights = torch.tensor([0.0, 1.5, -2.25, 3e-30])
    columns = weight_columns(weights)
    assert columns[0] == 0
    assert torch.equal(columns.to(torch.int32).view(torch.float32), weights)


def test_lists_of_one_value_are_a_plain_feature(tmp_path):
    """The same log, once with each id as a cell that could hold three."""
    plain = replace(
        LIST_SCHEMA,
        behaviour=LIST_SCHEMA.behaviour[:1],
        candidate=LIST_SCHEMA.candidate[:1],
        context=LIST_SCHEMA.context[1:],
        profile=LIST_SCHEMA.profile[1:],
    )
    lists = replace(plain, behaviour=(Feature("item", "item", 3),), candidate=plain.candidate)
    stores = [write_list_store(tmp_path / "plain", schema=plain)]
    import list_logs

    made = list_logs.make_cells

    def of_one(rng, n, feature):
        found = made(rng, n, feature._replace(max_values=1))
        if feature.max_values > 1:
            ids = found[feature.name]
            found[feature.name] = np.stack([ids, 0 * ids, 0 * ids], 1)
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(list_logs, "make_cells", of_one)
        stores.append(write_list_store(tmp_path / "lists", schema=lists))
    rows = np.arange(100)
    logits = [scored(made_of(one), gather_batch(one, rows, 12)) for one in stores]
    assert (logits[0] - logits[1]).abs().max() < 1e-12


@pytest.mark.parametrize("options", [SuanOptions(), START], ids=["behaviours", "running"])
def test_the_candidates_of_a_request_share_a_pass(store, options):
    model = made_of(store, options)
    requests = np.unique(store.request[: store.n_train])[:30]
    groups = [np.flatnonzero(store.request == request) for request in requests]
    rows = np.full((len(groups), max(map(len, groups))), -1)
    for index, own in enumerate(groups):
        rows[index, : len(own)] = own
    ends = store.history_end[rows[:, 0]]
    starts = np.maximum(store.offsets[store.user[rows[:, 0]]], ends - 12)
    batch = gather_packed(store, rows, starts, stretches=False)
    single = scored(model, gather_batch(store, rows[rows >= 0], 12))
    assert (scored(model, batch)[batch.present] - single).abs().max() < 1e-12


def test_a_stretch_of_requests_shares_a_pass(store):
    model = made_of(store, START)
    users = np.unique(store.user[: store.n_train])[:4]
    own = [np.flatnonzero(store.user[: store.n_train] == user)[:8] for user in users]
    rows = np.full((len(users), max(map(len, own))), -1)
    for index, values in enumerate(own):
        rows[index, : len(values)] = values
    ends = np.where(rows >= 0, store.history_end[rows], 0).max(1)
    starts = np.maximum(store.offsets[users], ends - 12)
    fits = (store.history_end[rows] >= starts[:, None]) & (rows >= 0)
    batch = gather_packed(store, rows, starts, stretches=True)
    packed = scored(model, batch)[torch.from_numpy(fits)]
    for found, row, start in zip(packed, rows[fits], np.repeat(starts, fits.sum(1)), strict=True):
        length = int(store.history_end[row] - start)
        alone = gather_batch(store, np.array([row]), max(length, 1))
        if length:
            assert abs(scored(model, alone).item() - found.item()) < 1e-12


def history_of(store, row):
    user, end = int(store.user[row]), int(store.history_end[row])
    events = np.arange(store.offsets[user], end)
    return History(
        named_cells(store, "behaviour", "behaviours/feature.", events, store.behaviours),
        store.event_time[events],
        named_cells(store, "profile", "profile/feature.", np.array([user]), store.profiles),
    )


def named_cells(store, group, prefix, rows, plain):
    found = {}
    for feature in getattr(store.schema, group):
        if feature.name in plain:
            found[feature.name] = plain[feature.name][rows]
            continue
        ids, weights = store.lists[f"{prefix}{feature.name}"].padded(rows)
        found[feature.name] = ids if feature.max_values > 1 else ids[:, 0]
        if weights is not None:
            weights = weights if feature.max_values > 1 else weights[:, 0]
            found[f"{feature.name}.weights"] = weights
    return found


def candidates_of(store, rows):
    return Candidates(
        named_cells(store, "candidate", "impressions/candidate.", rows, store.candidates),
        int(store.time[rows[0]]),
        named_cells(store, "context", "impressions/context.", rows, store.contexts),
        {name: values[rows] for name, values in store.numerics.items()},
    )


@pytest.mark.parametrize(
    "options",
    [
        SuanOptions(),
        START,
        SuanOptions(kind="lightsuan", window=3, dilation=4),
        SuanOptions(target_aware=False),
        EncoderOptions("din", {}),
    ],
    ids=["suan", "running", "lightsuan", "not target-aware", "din"],
)
def test_a_history_encoded_once_gives_the_logits_of_the_model(store, options):
    model = made_of(store, options)
    scorer = Scorer(model, store.schema, store.utc_offset_seconds)
    requests = np.unique(store.request[store.n_train :])[:10]
    for request in requests:
        rows = np.flatnonzero(store.request == request)
        if store.history_end[rows[0]] - store.offsets[store.user[rows[0]]] == 0:
            continue
        found = scorer.logits(scorer.encode(history_of(store, rows[0])), candidates_of(store, rows))
        expected = scored(model, gather_batch(store, rows, GRADE.max_len)).numpy()
        assert np.abs(found - expected).max() < 1e-10


@pytest.mark.parametrize(
    ("name", "change", "expected"),
    [
        ("tags", lambda ids: ids[:, :1] * 0 + 12, "ids from 12 to 12, but its vocabulary has"),
        ("tags", lambda ids: np.repeat(ids[:, :1], 2, 1), "has an id twice in a cell"),
        ("tags", lambda ids: ids[:, [0, 1, 2, 2]], "with k up to 3, 0 behind"),
        ("tags", lambda ids: np.stack([0 * ids[:, 0], ids[:, 0]], 1), "has an id behind a 0"),
        ("price", lambda ids: 0 * ids, "ids from 0 to 0, but its vocabulary has 1 to 2"),
        ("price.weights", lambda weights: weights * np.nan, "nan, expected finite numbers"),
        ("price.weights", lambda weights: weights[:-1], "expected numbers"),
    ],
)
def test_wrong_cells_of_a_history_are_refused_in_one_line(store, name, change, expected):
    row = int(np.argmax(store.history_end - store.offsets[store.user] > 2))
    history = history_of(store, row)
    changed = {**history.behaviours, name: change(history.behaviours[name])}
    scorer = Scorer(made_of(store), store.schema)
    with pytest.raises(SchemaError, match=expected) as raised:
        scorer.encode(replace(history, behaviours=changed))
    assert "\n" not in str(raised.value)


def test_a_cell_without_an_id_is_the_unknown_one(store):
    """As an importer stores it."""
    scorer = Scorer(made_of(store), store.schema)
    row = int(np.argmax(store.history_end - store.offsets[store.user] > 2))
    history, candidates = history_of(store, row), candidates_of(store, np.array([row]))
    scores = [
        scorer.logits(scorer.encode(replace(history, profile={**history.profile, "interests": ids})), candidates)
        for ids in ([1], [], [0, 0], [[0]])
    ]  # fmt: skip
    assert all(np.array_equal(one, scores[0]) for one in scores)
    words = [
        replace(candidates, context={**candidates.context, "words": ids, "words.weights": weights})
        for ids, weights in (([[1]], [[1.0]]), ([[]], [[]]), ([[0, 0]], [[0.0, 0.0]]))
    ]
    scores = [scorer.logits(scorer.encode(history), one) for one in words]
    assert all(np.array_equal(one, scores[0]) for one in scores)


def test_the_weight_of_a_missing_number_does_not_count(store):
    scorer = Scorer(made_of(store), store.schema)
    row = int(np.argmax(store.history_end - store.offsets[store.user] > 2))
    history, candidates = history_of(store, row), candidates_of(store, np.array([row]))
    n = len(history.times)
    scores = []
    for weight in (1.0, 7.0, 0.0):
        own = {"price": np.ones(n, int), "price.weights": np.full(n, weight)}
        state = scorer.encode(replace(history, behaviours={**history.behaviours, **own}))
        scores.append(scorer.logits(state, candidates))
    assert all(np.array_equal(one, scores[0]) for one in scores)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in ("suan", "lightsuan")])
def test_every_kind_reads_cells(store, kind):
    given = {"search": "soft"} if kind == "sim" else {}
    model = made_of(store, EncoderOptions(kind, given))
    assert torch.isfinite(scored(model, gather_batch(store, np.arange(20), 12))).all()


def test_parameters_and_flops_are_counted(store):
    model = build_model(GRADE, SuanOptions(), store.schema, base_rate=0.3, seed=1)
    size = size_of(GRADE, SuanOptions(), store.schema)
    n_params = sum(parameter.numel() for parameter in model.parameters())
    assert size.n_params + size.n_embedding_params == n_params
    plain = replace(
        store.schema,
        **{
            group: tuple(Feature(f.name, f.vocabulary) for f in getattr(store.schema, group))
            for group in ("behaviour", "candidate", "context", "profile")
        },
    )
    # tags and price of 13 tokens, tags and words of the candidate, interests of the user
    pooling = 2 * GRADE.d * (13 * (3 + 1) + 3 + 4 + 5)
    assert size.flops_per_sample - size_of(GRADE, SuanOptions(), plain).flops_per_sample == pooling


def test_measured_flops_count_pooling_alike(store):
    options = EncoderOptions("din", {})
    plain = replace(store.schema, profile=(Feature("interests", "tag"), Feature("age", "age")))
    found = (
        size_of(GRADE, options, store.schema).flops_per_sample
        - size_of(GRADE, options, plain).flops_per_sample
    )
    assert found == 2 * GRADE.d * 5


def test_torch_counts_no_flops_of_pooling(store):
    """What `pooling_flops` adds is not counted twice."""
    table = FeatureEmbeddings(store.schema, 8, 0.1)
    batch = empty_batch(store.schema, 12, 1, "cpu")
    with FlopCounterMode(display=False) as counter:
        table.pooled({"behaviour": batch.behaviours})
    assert counter.get_total_flops() == 0


def test_sim_does_not_search_by_a_list(store):

    with pytest.raises(OptionError, match="category is 'tags', which holds several values"):
        build_model(
            GRADE, EncoderOptions("sim", {"search": "hard", "category": "tags"}), store.schema,
            base_rate=0.3, seed=1,
        )  # fmt: skip
