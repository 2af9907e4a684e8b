import json
import subprocess
import sys
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch

from models import attention
from models.compiled_scoring import compile_scoring
from models.config import SuanOptions
from models.grades import Grade
from models.scorer import Candidates, History, SchemaError, Scorer
from models.suan import build_suan
from scaling.loader import gather_batch

GRADE = Grade(2, 2, 8, 20)
LIGHT = SuanOptions(kind="lightsuan", window=3, dilation=4)
OPTIONS = [
    SuanOptions(),
    SuanOptions(pooling="running", positions="start"),
    SuanOptions(fusion="sum", norm="layer", placement="post", bias="time"),
    SuanOptions(fusion="none", placement="released", ffn="relu", bias="position"),
    SuanOptions(target_aware=False, bias="none"),
    LIGHT,
    replace(LIGHT, pooling="running"),
    replace(LIGHT, target_aware=False, fusion="sum"),
]


def make_model(store, options, dtype=torch.float64):
    model = build_suan(GRADE, options, store.schema, base_rate=0.3, seed=1).to(dtype).eval()
    generator = torch.Generator().manual_seed(2)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3, generator=generator)
    with torch.no_grad():
        model.embeddings.weight[0] = 0
    return model


def user_of(store, row):
    """The whole history before an impression, which may be longer than the model's."""
    user, end = store.user[row], store.history_end[row]
    events = slice(int(store.offsets[user]), int(end))
    schema = store.schema
    return History(
        {f.name: store.behaviours[f.name][events] for f in schema.behaviour},
        store.event_time[events],
        {f.name: store.profiles[f.name][user] for f in schema.profile},
    )


def candidates_of(store, row, items):
    """The impressions `items` as candidates of the request of `row`."""
    schema = store.schema
    return Candidates(
        {f.name: store.candidates[f.name][items] for f in schema.candidate},
        int(store.time[row]),
        {f.name: store.contexts[f.name][items] for f in schema.context},
        {name: store.numerics[name][items] for name in schema.numeric},
    )


def alone(model, store, row, items):
    """A forward pass for each candidate, in the request of `row`."""
    logits = []
    for item in items:
        batch = gather_batch(store, np.array([row]), GRADE.max_len)
        own = gather_batch(store, np.array([item]), GRADE.max_len)
        batch = replace(
            batch,
            candidate=own.candidate,
            context=own.context,
            numeric=own.numeric.to(model.embeddings.weight.dtype),
        )
        with torch.no_grad():
            logits.append(model(batch).item())
    return np.array(logits)


ITEMS = np.arange(0, 1000, 90)


@pytest.mark.parametrize("sparse", [True, False])
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_each_candidate_scores_as_in_a_pass_of_its_own(tiny_store, monkeypatch, options, sparse):
    """Float64, sums in another order: with long, short and empty histories."""
    monkeypatch.setattr(attention, "sparse_pays", lambda *_: sparse)
    model = make_model(tiny_store, options)
    scorer = Scorer(model, tiny_store.schema, tiny_store.utc_offset_seconds)
    lengths = tiny_store.history_end - tiny_store.offsets[tiny_store.user]
    for row in (int(lengths.argmax()), int(lengths.argmin()), 400):
        state = scorer.encode(user_of(tiny_store, row))
        logits = scorer.logits(state, candidates_of(tiny_store, row, ITEMS))
        assert np.abs(logits - alone(model, tiny_store, row, ITEMS)).max() < 1e-10
    assert lengths.max() > GRADE.max_len
    assert lengths.min() == 0


@pytest.mark.parametrize("options", [SuanOptions(), LIGHT], ids=str)
def test_in_float32_scores_agree_to_rounding(tiny_store, options):
    model = make_model(tiny_store, options, torch.float32)
    scorer = Scorer(model, tiny_store.schema, tiny_store.utc_offset_seconds)
    state = scorer.encode(user_of(tiny_store, 400))
    scores = scorer.score(state, candidates_of(tiny_store, 400, ITEMS))
    expected = 1 / (1 + np.exp(-alone(model, tiny_store, 400, ITEMS)))
    assert np.abs(scores - expected).max() < 1e-5


def test_a_state_serves_later_requests(tiny_store):
    """Only the request's time differs; the history is not encoded again."""
    model = make_model(tiny_store, SuanOptions())
    scorer = Scorer(model, tiny_store.schema, tiny_store.utc_offset_seconds)
    state = scorer.encode(user_of(tiny_store, 400))
    first = candidates_of(tiny_store, 400, ITEMS)
    later = replace(first, time=first.time + 5 * 3600)
    once, again = scorer.logits(state, later), scorer.logits(state, first)
    assert np.array_equal(again, scorer.logits(state, first))
    fresh = scorer.logits(scorer.encode(user_of(tiny_store, 400)), later)
    assert np.array_equal(once, fresh)
    assert not np.allclose(once, again)


def test_candidates_do_not_see_each_other(tiny_store):
    scorer = Scorer(make_model(tiny_store, LIGHT), tiny_store.schema)
    state = scorer.encode(user_of(tiny_store, 400))
    many = scorer.logits(state, candidates_of(tiny_store, 400, ITEMS))
    few = scorer.logits(state, candidates_of(tiny_store, 400, ITEMS[3:5]))
    assert np.abs(few - many[3:5]).max() < 1e-12


def test_a_sparse_state_holds_only_the_keys_that_are_read(tiny_store):
    dense, sparse = (
        Scorer(make_model(tiny_store, options), tiny_store.schema).encode(user_of(tiny_store, 400))
        for options in (SuanOptions(), LIGHT)
    )
    assert dense.n_behaviours == sparse.n_behaviours
    assert len(sparse.key_times) == len(LIGHT.pattern.distances(int(sparse.n_behaviours) + 1))
    assert sparse.n_bytes < dense.n_bytes


def test_a_mean_over_the_candidate_is_refused(tiny_store):
    with pytest.raises(ValueError, match='train with pooling = "behaviours" or "running"'):
        Scorer(make_model(tiny_store, SuanOptions(pooling="all")), tiny_store.schema)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (
            {"features": {"shop": [1]}},
            r"candidate: this model reads the features .*; given are shop",
        ),
        ({"context": {}}, "context: this model reads the features .*; given are none"),
        ({"item": [10**6]}, "ids from 1000000 to 1000000, but its vocabulary has 0 to"),
        ({"item": [-1]}, "ids from -1 to -1"),
        ({"item": [0.5]}, r"float64 \(1\), expected 1 ids"),
        ({"item": [[1, 2]]}, r"int64 \(1 x 2\), expected 2 ids"),
    ],
)
def test_another_schema_is_told_in_one_line(tiny_store, change, told):
    scorer = Scorer(make_model(tiny_store, SuanOptions()), tiny_store.schema)
    state = scorer.encode(user_of(tiny_store, 400))
    good = candidates_of(tiny_store, 400, ITEMS[:1])
    name = tiny_store.schema.candidate[0].name
    if "item" in change:
        change = {"features": {**good.features, name: np.array(change["item"])}}
    with pytest.raises(SchemaError, match=told) as error:
        scorer.score(state, replace(good, **change))
    assert "\n" not in str(error.value)


def test_a_history_of_another_length_is_told(tiny_store):
    scorer = Scorer(make_model(tiny_store, SuanOptions()), tiny_store.schema)
    history = user_of(tiny_store, 400)
    with pytest.raises(SchemaError, match=r"behaviour .*expected"):
        scorer.encode(replace(history, times=history.times[:-1]))


@pytest.mark.slow  # a process of its own
def test_a_saved_model_serves_without_the_code_that_trained_it(tiny_store, tmp_path):
    from safetensors.torch import save_file

    model = make_model(tiny_store, LIGHT, torch.float32)
    schema = tiny_store.schema
    features = {**schema.to_json(), "vocabularies": list(schema.vocabularies.items())}
    facts = {"grade": asdict(GRADE), "options": asdict(LIGHT), "schema": features}
    facts["utc_offset_seconds"] = tiny_store.utc_offset_seconds
    path = tmp_path / "model.safetensors"
    save_file(model.state_dict(), path, {key: json.dumps(value) for key, value in facts.items()})
    history, few = user_of(tiny_store, 400), candidates_of(tiny_store, 400, ITEMS)
    expected = Scorer(model, schema, tiny_store.utc_offset_seconds)
    expected = expected.score(expected.encode(history), few)
    arrays = {
        "behaviours": {name: values.tolist() for name, values in history.behaviours.items()},
        "times": history.times.tolist(),
        "profile": {name: int(value) for name, value in history.profile.items()},
        "features": {name: values.tolist() for name, values in few.features.items()},
        "context": {name: values.tolist() for name, values in few.context.items()},
        "numeric": {name: values.tolist() for name, values in few.numeric.items()},
        "time": few.time,
    }
    code = """
import json, sys
for name in ("scaling", "sweeps", "analysis", "pydantic", "scipy", "pandas"):
    sys.modules[name] = None
from models.scorer import Candidates, History, Scorer
a = json.loads(sys.argv[2])
scorer = Scorer.load(sys.argv[1])
state = scorer.encode(History(a["behaviours"], a["times"], a["profile"]))
print(scorer.score(state, Candidates(a["features"], a["time"], a["context"], a["numeric"])).tolist())
"""
    command = [sys.executable, "-c", code, str(tmp_path), json.dumps(arrays)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert np.abs(np.array(json.loads(done.stdout)) - expected).max() < 1e-6


@pytest.mark.slow
@pytest.mark.timeout(600)  # a C++ compiler works
@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")  # torch's own
@pytest.mark.parametrize(
    "options", [LIGHT, SuanOptions(pooling="running", positions="start")], ids=str
)
def test_the_compiled_pass_gives_the_same_scores(tiny_store, tmp_path, options):
    """To 1e-5 as all float32 scores; of users and requests of any size, those too small for it among them."""
    model = make_model(tiny_store, options, torch.float32)
    scorer = Scorer(model, tiny_store.schema, tiny_store.utc_offset_seconds)
    lengths = tiny_store.history_end - tiny_store.offsets[tiny_store.user]
    rows = [int(lengths.argmax()), int(lengths.argmin()), 400]
    states = [scorer.encode(user_of(tiny_store, row)) for row in rows]
    requests = [candidates_of(tiny_store, row, ITEMS[:n]) for row in rows for n in (1, 2, 11)]
    plain = [scorer.score(states[n // 3], request) for n, request in enumerate(requests)]
    compile_scoring(model, states[0], tmp_path / "scoring.pt2")
    scorer.use_compiled(tmp_path / "scoring.pt2")
    compiled = [scorer.score(states[n // 3], request) for n, request in enumerate(requests)]
    for ours, theirs in zip(plain, compiled, strict=True):
        assert np.abs(ours - theirs).max() < 1e-5


@pytest.mark.parametrize("content", [b"", b"no model", None])
def test_a_file_that_is_no_model_is_told(tmp_path, content):
    if content is not None:
        (tmp_path / "model.safetensors").write_bytes(content)
    with pytest.raises((ValueError, OSError), match="model"):
        Scorer.load(tmp_path)
