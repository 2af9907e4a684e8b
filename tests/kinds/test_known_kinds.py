"""Kinds of models: options, sizes, packing, and the text of what is refused."""

import json
from dataclasses import asdict, replace

import pytest
import torch
from encoder_inputs import SmallSchema
from slow_cases import fast_only

from models.accounting import model_size
from models.grades import GRADES, Grade
from models.kinds import (
    KINDS,
    ModelError,
    check_model,
    counted_size,
    exact_packing,
    options_of,
    options_type,
    read_options,
    size_of,
)
from models.kinds.building import build_model, empty_model
from models.kinds.contract_check import check_contract
from models.kinds.measured_size import empty_batch, measure, measure_pass
from models.model_options import EncoderOptions, SuanOptions, settings_of_model
from scaling.strict_values import from_document
from scaling.study import RunConfig

SCHEMA = SmallSchema(
    vocabularies={"item": 40, "category": 9, "action": 4, "position": 6, "age": 7, "city": 8}
)
GRADE = Grade(2, 2, 4, 12)
OTHERS = [kind for kind in KINDS if "suan" not in kind]


def default(kind):
    return options_of(kind, SuanOptions(kind=kind) if "suan" in kind else options_type(kind)())


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_keeps_the_protocol(kind):
    check_contract(GRADE, default(kind), SCHEMA)


@pytest.mark.parametrize("kind", OTHERS)
def test_the_counted_parameters_are_those_of_the_model(kind):
    size = size_of(GRADE, default(kind), SCHEMA)
    model = build_model(GRADE, default(kind), SCHEMA, base_rate=0.5, seed=0)
    n_params = sum(p.numel() for p in model.parameters())
    assert size.n_params + size.n_embedding_params == n_params
    assert size.n_embedding_params >= model.embeddings.weight.numel()


@pytest.mark.parametrize("name", ["SUAN-0", "SUAN-3", "SUAN-6"])
def test_torchs_counters_give_the_parameters_of_suans_closed_form(name):
    measured = measure(GRADES[name], SuanOptions(), SCHEMA)
    closed = model_size(GRADES[name], SuanOptions(), SCHEMA)
    assert measured.n_params == closed.n_params
    assert measured.n_embedding_params == closed.n_embedding_params


def test_torchs_counters_give_the_flops_of_suans_closed_form_but_for_what_the_code_saves():
    """The code reads one token of the last block and carries the profile's keys instead of the tokens."""
    grade = Grade(6, 2, 8, 64)
    measured = measure(grade, SuanOptions(), SCHEMA).flops_per_sample
    closed = model_size(grade, SuanOptions(), SCHEMA).flops_per_sample
    assert 0.75 * closed < measured < closed


@pytest.mark.parametrize("kind", KINDS)
def test_numeric_features_add_the_heads_flops_alone(kind):
    """Batch normalisation of one row has no variance; the pass is counted all the same."""
    one, two = (
        counted_size(GRADE, default(kind), replace(SCHEMA, numeric=names))
        for names in ((), ("price", "stars"))
    )
    assert two.flops_per_sample - one.flops_per_sample == 2 * 2 * 16 * GRADE.d


def test_flops_of_a_model_without_a_history_do_not_depend_on_its_length():
    options = default("dcnv2")
    sizes = {size_of(replace(GRADE, max_len=n), options, SCHEMA) for n in (4, 400)}
    assert len(sizes) == 1


def test_candidates_that_share_a_pass_share_the_flops_of_the_history():
    one, _ = measure_pass(GRADE, default("hstu"), SCHEMA, 12, 1)
    ten, _ = measure_pass(GRADE, default("hstu"), SCHEMA, 12, 10)
    assert one < ten < 10 * one


@pytest.mark.parametrize("kind", KINDS)
def test_the_ends_of_the_ladder_can_be_built(kind):
    for name in ("SUAN-0", "SUAN-9"):
        assert size_of(GRADES[name], default(kind), SCHEMA).n_params > 0, name


@pytest.mark.parametrize("kind", fast_only(["bst"], OTHERS))
def test_parameters_grow_along_the_ladder(kind):
    grades = list(GRADES.values())[:10]
    n_params = [size_of(grade, default(kind), SCHEMA).n_params for grade in grades]
    assert n_params == sorted(set(n_params))


@pytest.mark.parametrize("kind", KINDS)
def test_options_survive_a_record(kind):
    config = RunConfig(
        "SUAN-1", GRADE, default(kind), 512, 0, 32, 0.01, "decay", "shared", "x", warmup_steps=2
    )
    read = from_document(RunConfig, json.loads(json.dumps(asdict(config))), "record")
    assert read == config
    assert read.signature == config.signature
    assert read_options(read.model) == read_options(config.model)


def test_other_options_are_another_run():
    one, other = (options_of("din", options_type("din")(activation=a)) for a in ("dice", "relu"))
    config = RunConfig(
        "SUAN-1", GRADE, one, 512, 0, 32, 0.01, "decay", "shared", "x", warmup_steps=2
    )
    assert config.signature != replace(config, model=other).signature


def test_settings_of_a_model_are_named_as_in_a_study():
    assert settings_of_model(default("bst")) == {
        "kind": "bst",
        "causal": True,
        "pooling": "target",
        "positions": "end",
    }


def test_a_stretch_is_exact_only_under_the_options_that_make_it_so():
    bst = options_type("bst")
    assert exact_packing(options_of("bst", bst())) == ("request",)
    assert exact_packing(options_of("bst", bst(positions="start"))) == ("request", "stretch")


def test_a_request_is_refused_where_it_is_not_exact():
    model = empty_model(GRADE, SuanOptions(pooling="all"), SCHEMA)
    with pytest.raises(ValueError, match="packing request is not exact with these options"):
        model(empty_batch(SCHEMA, 4, 3, "cpu"))


def test_a_kind_that_is_nearly_known_is_suggested():
    with pytest.raises(ModelError, match=r"no kind hst \(did you mean hstu\?\)"):
        options_type("hst")


def test_options_of_another_version_are_refused():
    with pytest.raises(ModelError, match="does not take these options"):
        read_options(EncoderOptions("din", {"no": 1}))


def test_models_of_this_package_are_not_checked_again():
    check_model(GRADE, default("din"), SCHEMA)


@pytest.mark.parametrize("kind", OTHERS)
def test_a_seed_fixes_the_model(kind):
    one, other = (
        build_model(GRADE, default(kind), SCHEMA, base_rate=0.3, seed=4) for _ in range(2)
    )
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


@pytest.mark.parametrize("kind", KINDS)
def test_numeric_features_of_a_single_impression_are_trained_by_running_statistics(kind):
    schema = replace(SCHEMA, numeric=("price",))
    model = build_model(GRADE, default(kind), schema, base_rate=0.3, seed=0).train()
    before = model.normalize_numeric.running_mean.clone()
    model(empty_batch(schema, 4, 1, "cpu")).sum().backward()
    assert model.normalize_numeric.training
    assert torch.equal(model.normalize_numeric.running_mean, before)


def test_the_source_of_a_finished_run_is_to_be_restored(monkeypatch):
    monkeypatch.setattr("models.kinds.known_kinds.source_digest", lambda cls: "new")
    monkeypatch.setattr("models.kinds.known_kinds.former_digest", lambda cls: "new")
    with pytest.raises(ModelError, match="restore the source to use the run"):
        read_options(EncoderOptions("din", {}, "old"))


def test_a_feature_that_the_data_lack_is_named_as_the_option_that_asks_for_it():
    options = EncoderOptions("sim", {"search": "hard", "category": "brand"})
    with pytest.raises(ModelError, match=r"^sim: category is 'brand', expected") as error:
        size_of(GRADE, options, SCHEMA)
    assert error.value.key == "model.category"
