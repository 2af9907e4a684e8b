import json
import pickle
import subprocess
import sys
import zipfile
from dataclasses import replace

import numpy as np
import pytest
import torch
from random_models import random_model

from models.attention import bias
from models.grades import Grade
from models.kinds.building import build_model
from models.model_options import SuanOptions
from models.scoring import Candidates, History, Scorer, compile_scoring
from models.scoring.request import SchemaError
from models.scoring.user_state import fingerprint
from scaling.batches.gather import gather_batch
from scaling.study import RunConfig
from scaling.training.saved_model import save_model

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
    return random_model(GRADE, options, store.schema, dtype)


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
    monkeypatch.setattr(bias, "sparse_pays", lambda *_: sparse)
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
    with pytest.raises(ValueError, match='request needs pooling = "behaviours" or "running"'):
        Scorer(make_model(tiny_store, SuanOptions(pooling="all")), tiny_store.schema)


@pytest.mark.parametrize(
    ("change", "message"),
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
def test_another_schema_is_refused_in_one_line(tiny_store, change, message):
    scorer = Scorer(make_model(tiny_store, SuanOptions()), tiny_store.schema)
    state = scorer.encode(user_of(tiny_store, 400))
    good = candidates_of(tiny_store, 400, ITEMS[:1])
    name = tiny_store.schema.candidate[0].name
    if "item" in change:
        change = {"features": {**good.features, name: np.array(change["item"])}}
    with pytest.raises(SchemaError, match=message) as error:
        scorer.score(state, replace(good, **change))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("time", "message"),
    [
        (1_700_000_000.5, r"time: 1700000000.5, expected whole unix seconds, e.g. int\(time"),
        (float("nan"), "time: nan, expected whole unix seconds"),
        (float("inf"), "time: inf, expected whole unix seconds from 1970 to 2100"),
        (1_700_000_000_000, "time: 1700000000000, expected .* not milliseconds"),
        ("now", r"time: <U3 \(one value\), expected whole unix seconds of the request"),
        (None, r"time: object \(one value\), expected whole"),
        (True, r"time: bool \(one value\), expected whole"),
        ([1, 2, 3], r"time: int64 \(3\), expected whole"),
    ],
)
def test_a_request_s_time_is_whole_seconds(tiny_store, time, message):
    scorer = Scorer(make_model(tiny_store, SuanOptions()), tiny_store.schema)
    state = scorer.encode(user_of(tiny_store, 400))
    request = replace(candidates_of(tiny_store, 400, ITEMS), time=time)
    with pytest.raises(SchemaError, match=f"^{message}"):
        scorer.score(state, request)


def test_whole_seconds_may_be_floats(tiny_store):
    scorer = Scorer(make_model(tiny_store, SuanOptions()), tiny_store.schema)
    history, request = user_of(tiny_store, 400), candidates_of(tiny_store, 400, ITEMS)
    floats = replace(history, times=history.times.astype(float)), float(request.time)
    state = scorer.encode(floats[0])
    scores = scorer.logits(state, replace(request, time=floats[1]))
    assert np.array_equal(scores, scorer.logits(scorer.encode(history), request))


@pytest.mark.parametrize(
    ("times", "message"),
    [
        ([1.5, 2], r"times: 1.5, expected whole unix seconds"),
        ([float("nan"), 2], "times: nan, expected whole"),
        (["1", "2"], r"times: <U1 \(2\), expected whole unix seconds \[L\], oldest first"),
        (None, r"times: object \(one value\)"),
        ([2**64, 1], r"times: object \(2\)"),
        ([[1, 2]], r"times: int64 \(1 x 2\)"),
        ([[1], [1, 2]], "times: list cannot be converted to an array"),
        (np.array(["2020-01-01", "2020-01-02"], "M8[s]"), r"times: datetime64\[s\] \(2\)"),
        ([1, -5], "times: -5, expected .* from 1970"),
        ([10, 12, 11, 9], "times: 11 at 2 comes after 12, expected the oldest first"),
        ([10, 12, 14], r"behaviour .*: int64 \(2\), expected 3 ids$"),
    ],
)
def test_times_of_a_history_are_whole_seconds_in_order(tiny_store, times, message):
    scorer = Scorer(make_model(tiny_store, SuanOptions()), tiny_store.schema)
    behaviours = {feature.name: [1, 1] for feature in tiny_store.schema.behaviour}
    profile = user_of(tiny_store, 400).profile
    with pytest.raises(SchemaError, match=f"^{message}") as error:
        scorer.encode(History(behaviours, times, profile))
    assert "\n" not in str(error.value)


def test_events_of_one_second_are_in_order(tiny_store):
    scorer = Scorer(make_model(tiny_store, SuanOptions()), tiny_store.schema)
    behaviours = {feature.name: [1, 1] for feature in tiny_store.schema.behaviour}
    history = History(behaviours, [7, 7], user_of(tiny_store, 400).profile)
    assert int(scorer.encode(history).n_behaviours) == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"behaviours": None}, "behaviour: NoneType, expected a dict of arrays by feature"),
        ({"behaviours": [1, 2]}, "behaviour: list, expected a dict"),
        ({"profile": None}, "profile: NoneType, expected a dict"),
        ({"ids": [[1], [1, 2]]}, "behaviour item: list cannot be converted to an array"),
        ({"ids": [1]}, r"behaviour item: int64 \(1\), expected 2 ids$"),
        ({"ids": 1}, r"behaviour item: int64 \(one value\), expected 2 ids$"),
    ],
)
def test_a_bad_history_is_refused(tiny_store, change, message):
    scorer = Scorer(make_model(tiny_store, SuanOptions()), tiny_store.schema)
    behaviours = {feature.name: [1, 1] for feature in tiny_store.schema.behaviour}
    history = History(behaviours, [7, 8], user_of(tiny_store, 400).profile)
    if "ids" in change:
        change = {"behaviours": {**behaviours, "item": change["ids"]}}
    with pytest.raises(SchemaError, match=f"^{message}"):
        scorer.encode(replace(history, **change))


def test_no_candidates_have_no_scores(tiny_store):
    scorer = Scorer(make_model(tiny_store, SuanOptions()), tiny_store.schema)
    state = scorer.encode(user_of(tiny_store, 400))
    assert scorer.score(state, candidates_of(tiny_store, 400, ITEMS[:0])).shape == (0,)


def test_a_number_that_is_not_finite_is_refused(tiny_store):
    schema = replace(tiny_store.schema, numeric=("price",))
    scorer = Scorer(build_model(GRADE, SuanOptions(), schema, base_rate=0.3, seed=1), schema)
    state = scorer.encode(user_of(tiny_store, 400))
    request = replace(candidates_of(tiny_store, 400, ITEMS), numeric={"price": float("nan")})
    with pytest.raises(SchemaError, match=r"^numeric price: .* expected finite numbers"):
        scorer.score(state, request)


def test_a_state_of_another_model_is_refused(tiny_store):
    """Even of one that differs in a single weight."""
    model, other = (make_model(tiny_store, SuanOptions()) for _ in range(2))
    with torch.no_grad():
        other.head[-1].bias += 1e-9
    state = Scorer(other, tiny_store.schema).encode(user_of(tiny_store, 400))
    scorer = Scorer(model, tiny_store.schema)
    request = candidates_of(tiny_store, 400, ITEMS)
    with pytest.raises(SchemaError, match=r"^state: of another model"):
        scorer.score(state, request)
    with pytest.raises(SchemaError, match=r"^state: NoneType, expected what `encode` returned"):
        scorer.score(None, request)


def test_wrong_types_are_refused(tiny_store):
    scorer = Scorer(make_model(tiny_store, SuanOptions()), tiny_store.schema)
    with pytest.raises(SchemaError, match=r"^history: int, expected a History"):
        scorer.encode(5)
    with pytest.raises(SchemaError, match=r"^candidates: int, expected Candidates"):
        scorer.score(scorer.encode(user_of(tiny_store, 400)), 5)


def test_a_state_of_nobody_is_its_model_s_too(tiny_store):
    nobody = History(
        {feature.name: [] for feature in tiny_store.schema.behaviour},
        [],
        user_of(tiny_store, 400).profile,
    )
    model = make_model(tiny_store, SuanOptions())
    assert Scorer(model, tiny_store.schema).encode(nobody).model == fingerprint(model)


def test_a_state_can_be_kept_for_the_same_model(tiny_store):
    """As another process would read it, with a scorer of its own."""
    ours, theirs = (Scorer(make_model(tiny_store, LIGHT), tiny_store.schema) for _ in range(2))
    state, request = ours.encode(user_of(tiny_store, 400)), candidates_of(tiny_store, 400, ITEMS)
    kept = pickle.loads(pickle.dumps(state))
    assert np.array_equal(theirs.score(kept, request), ours.score(state, request))


@pytest.mark.parametrize(
    "change",
    [
        lambda schema: replace(schema, vocabularies=dict(reversed(schema.vocabularies.items()))),
        lambda schema: replace(schema, behaviour=schema.behaviour[::-1]),
    ],
    ids=["order of the tables", "order of the features"],
)
def test_the_same_weights_for_other_inputs_are_another_model(tiny_store, change):
    model = make_model(tiny_store, SuanOptions())
    other = build_model(GRADE, SuanOptions(), change(tiny_store.schema), base_rate=0.3, seed=1)
    other.double().load_state_dict(model.state_dict())
    assert fingerprint(other) != fingerprint(model)


def save_own(store, folder, model):
    """Keep a model as a run does."""
    config = RunConfig(
        "own", GRADE, model.options, 64, 0, 16, 0.01, "decay", "independent", store.fingerprint, 2
    )
    return save_model(folder, model, config, store.schema, store.utc_offset_seconds)


@pytest.mark.slow  # a process of its own
def test_a_saved_model_serves_without_the_code_that_trained_it(tiny_store, tmp_path):
    model = make_model(tiny_store, LIGHT, torch.float32)
    schema = tiny_store.schema
    save_own(tiny_store, tmp_path, model)
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
from models.scoring import Candidates, History, Scorer
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
    with torch.no_grad():
        model.head[-1].bias += 1e-3
    with pytest.raises(ValueError, match=r"scoring.pt2: the pass of another model"):
        Scorer(model, tiny_store.schema).use_compiled(tmp_path / "scoring.pt2")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"path": "scoring.so"}, r"scoring.so: expected a file NAME.pt2"),
        ({"path": "no/scoring.pt2"}, r"no/scoring.pt2: expected .* in a folder that is there"),
        ({"events": 1}, "state: of a user of whom candidates read 1 behaviours, expected two"),
        ({"other": True}, "state: of another model"),
    ],
)
def test_a_bad_compilation_is_refused_before_it_starts(tiny_store, tmp_path, change, message):
    model = make_model(tiny_store, SuanOptions())
    history = user_of(tiny_store, 400)
    n_events = change.get("events", 2)
    history = History(
        {name: ids[:n_events] for name, ids in history.behaviours.items()},
        history.times[:n_events],
        history.profile,
    )
    state = Scorer(model, tiny_store.schema).encode(history)
    if "other" in change:
        model = make_model(tiny_store, LIGHT)
    with pytest.raises(ValueError, match=message) as error:
        compile_scoring(model, state, tmp_path / change.get("path", "scoring.pt2"))
    assert "\n" not in str(error.value)


def write_package(path, metadata):
    with zipfile.ZipFile(path, "w") as package:
        package.writestr("scoring/data/aotinductor/model/a.wrapper_metadata.json", metadata)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "scoring.pt2: no such file; `compile_scoring` writes it"),
        ("text", "scoring.pt2: not a compiled pass .*; compile it again"),
        ({}, "scoring.pt2: does not say whose pass it is; compile it again"),
        ({"ctr_scaling_model": "f" * 64}, "scoring.pt2: the pass of another model"),
        ("ours", r"scoring.pt2: cannot be loaded here \(.*\); compile it here"),
    ],
)
def test_a_pass_of_another_model_is_refused(tiny_store, tmp_path, content, message):
    model, path = make_model(tiny_store, SuanOptions()), tmp_path / "scoring.pt2"
    if content == "ours":
        content = {"ctr_scaling_model": fingerprint(model)}
    if isinstance(content, dict):
        write_package(path, json.dumps(content))
    elif content is not None:
        path.write_text(content)
    with pytest.raises((ValueError, OSError), match=message) as error:
        Scorer(model, tiny_store.schema).use_compiled(path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("content", [b"", b"no model"])
def test_a_file_that_is_no_model_is_refused(tmp_path, content):
    path = tmp_path / "kept.safetensors"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"kept.safetensors: not a model of this version: .*; exp"):
        Scorer.load(path)


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (None, "its header has no grade, options, schema"),
        ({"format": "pt"}, "its header has no grade, options, schema"),
        ({"grade": "{", "options": "{}", "schema": "{}"}, "Expecting property name"),
        ({"grade": "{}", "options": "{}", "schema": "3"}, "not subscriptable"),
    ],
)
def test_a_file_of_other_tensors_is_refused_with_its_path(tmp_path, header, message):
    from safetensors.torch import save_file

    path = tmp_path / "kept.safetensors"
    save_file({"a": torch.zeros(1)}, path, header)
    with pytest.raises(ValueError, match=f"kept.safetensors: not a .*{message}") as error:
        Scorer.load(path)
    assert "\n" not in str(error.value)


def test_weights_of_other_shapes_are_refused_in_one_line(tiny_store, tmp_path):
    model = make_model(tiny_store, SuanOptions())
    model.position = torch.nn.Parameter(torch.zeros(3, 3))
    path = save_own(tiny_store, tmp_path, model)
    with pytest.raises(
        ValueError, match=r"not a model of this version: Error.* in loading"
    ) as error:
        Scorer.load(path)
    assert "\n" not in str(error.value)


def test_a_folder_without_a_model_is_refused(tmp_path):
    with pytest.raises(
        FileNotFoundError, match=r"model.safetensors: no such file; give the folder"
    ):
        Scorer.load(tmp_path)


@pytest.mark.parametrize("device", ["foo", "meta"])
def test_a_device_that_cannot_score_is_refused(tiny_store, tmp_path, device):
    path = save_own(tiny_store, tmp_path, make_model(tiny_store, SuanOptions()))
    with pytest.raises(ValueError, match=rf"^device {device}: expected cpu, or a GPU") as error:
        Scorer.load(path, device=device)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("part", ["order", "vocabulary", "profile"])
def test_another_schema_than_the_models_is_refused(tiny_store, part):
    schema = tiny_store.schema
    larger = {name: size + 500 for name, size in schema.vocabularies.items()}
    others = {
        "order": replace(schema, candidate=schema.candidate[::-1]),
        "vocabulary": replace(schema, vocabularies=larger),
        "profile": replace(schema, profile=()),
    }
    with pytest.raises(SchemaError, match="not the one that the model was built for"):
        Scorer(make_model(tiny_store, LIGHT), others[part])
