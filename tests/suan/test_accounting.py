"""Counts against the module that is built, and FLOPs against torch's counter on a plain forward pass."""

from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from models.accounting import model_size
from models.ctr_model import Batch
from models.grades import GRADES, Grade
from models.kinds.building import build_model, empty_model
from models.model_options import SuanOptions
from scaling.store import Feature, Schema

SCHEMA = Schema(
    behaviour=(Feature("item", "item"), Feature("action", "action")),
    candidate=(Feature("item", "item"), Feature("price", "price")),
    context=(Feature("hour", "hour"),),
    profile=(Feature("age", "age"), Feature("city", "city")),
    numeric=("ctr",),
    vocabularies={"item": 30, "action": 4, "price": 7, "hour": 26, "age": 9, "city": 12},
)
VARIATIONS = [
    SuanOptions(),
    SuanOptions(norm="layer"),
    SuanOptions(ffn="relu"),
    SuanOptions(fusion="sum"),
    SuanOptions(fusion="none"),
    SuanOptions(bias="none"),
    SuanOptions(bias="time"),
    SuanOptions(bias="position"),
    SuanOptions(pooling="running"),
    SuanOptions(target_aware=False),
]
SMALL = Grade(2, 2, 4, 6)


def random_batch(n, length):
    def ids(features, *shape):
        return torch.randint(2, 4, (*shape, len(features)))

    return Batch(
        behaviours=ids(SCHEMA.behaviour, n, length),
        times=torch.arange(length + 1).expand(n, -1) * 60,
        hours=torch.randint(1, 25, (n, length + 1)),
        lengths=torch.full((n,), length),
        candidate=ids(SCHEMA.candidate, n),
        context=ids(SCHEMA.context, n),
        profile=ids(SCHEMA.profile, n),
        numeric=torch.rand(n, 1),
        label=torch.ones(n),
    )


def parameters(model, *, embedding):
    tables = {"embeddings.weight", "encoder.position", "encoder.hour"}
    return sum(p.numel() for name, p in model.named_parameters() if (name in tables) == embedding)


@pytest.mark.parametrize("options", VARIATIONS, ids=str)
def test_parameters_are_those_of_the_module(options):
    model = build_model(SMALL, options, SCHEMA, base_rate=0.5, seed=0)
    size = model_size(SMALL, options, SCHEMA)
    assert size.n_params == parameters(model, embedding=False)
    assert size.n_embedding_params == parameters(model, embedding=True)


@pytest.mark.parametrize("options", VARIATIONS, ids=str)
@pytest.mark.parametrize("name", GRADES)
def test_parameters_of_the_ladder_are_those_of_the_module(name, options):
    with torch.device("meta"):  # shapes without memory
        model = empty_model(GRADES[name], options, SCHEMA)
    size = model_size(GRADES[name], options, SCHEMA)
    assert size.n_params == parameters(model, embedding=False)
    assert size.n_embedding_params == parameters(model, embedding=True)


def plain_forward(grade, options):
    """Every matrix product of the paper's model, written out; shapes are all that matters here."""
    d, width = grade.d, grade.d * len(SCHEMA.behaviour)
    n_tokens = grade.max_len + options.target_aware
    x, profile = torch.rand(n_tokens, width), torch.rand(len(SCHEMA.profile), d)
    square, heads = torch.rand(width, width), (grade.n_heads, width // grade.n_heads)

    def attend(queries, keys, values):
        q, k, v = (t.view(-1, *heads).transpose(0, 1) for t in (queries, keys, values))
        return torch.bmm(torch.bmm(q, k.transpose(1, 2)), v).transpose(0, 1).reshape(-1, width)

    torch.mm(torch.rand(n_tokens, d), torch.rand(d, width))
    for _ in range(grade.n_layers):
        x = attend(x @ square, x @ square, x @ square) @ square
        if options.fusion != "none":
            into = torch.rand(d, width)
            x = attend(x @ square, profile @ into, profile @ into) @ square
        if options.fusion == "dual":
            z = x if options.pooling == "running" else x[:1]
            inner = max(1, width // 4)
            z = z @ torch.rand(width, inner)
            for _ in range(2):
                z @ torch.rand(inner, width)
        for _ in range(2 if options.ffn == "swiglu" else 1):
            hidden = x @ torch.rand(width, 3 * width)
        x = hidden @ torch.rand(3 * width, width)
    n_flat = len(SCHEMA.profile) + len(SCHEMA.candidate) + len(SCHEMA.context)
    y = torch.rand(1, width + n_flat * d + len(SCHEMA.numeric))
    for n_out in (16 * d, 8 * d, 1):
        y = F.linear(y, torch.rand(n_out, y.shape[1]))


@pytest.mark.parametrize("options", VARIATIONS, ids=str)
@pytest.mark.parametrize("grade", [SMALL, *GRADES.values()], ids=str)
def test_flops_are_those_that_torch_counts(grade, options):
    with FlopCounterMode(display=False) as counter, torch.device("meta"):
        plain_forward(grade, options)
    assert model_size(grade, options, SCHEMA).flops_per_sample == counter.get_total_flops()


def bytes_kept(model, batch):
    """Bytes of all that a forward pass keeps for the backward pass, parameters apart."""
    parameters = {p.untyped_storage().data_ptr() for p in model.parameters()}
    kept, storages = [], {}

    def keep(tensor):
        kept.append(tensor)  # so that no storage is used twice
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in parameters:
            storages[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        model(batch)
    return sum(storages.values())


@pytest.mark.parametrize("options", VARIATIONS, ids=str)
@pytest.mark.parametrize("grade", [Grade(3, 2, 8, 50), Grade(2, 2, 16, 150)], ids=str)
def test_activations_are_those_that_the_backward_pass_keeps(grade, options):
    model = build_model(grade, options, SCHEMA, base_rate=0.5, seed=0)
    few, many = (bytes_kept(model, random_batch(n, grade.max_len)) for n in (4, 8))
    expected = model_size(grade, options, SCHEMA).activation_bytes
    # indices, the head and the small tensors of a sample are not counted
    assert expected == pytest.approx((many - few) / 4, rel=0.1)


def test_a_lightsuan_counts_the_keys_that_its_last_token_reads():
    """Window 3 and dilation 4 over 13 tokens: itself, 1, 2, 4, 8 and 12 events ago, of 13 keys."""
    grade = replace(SMALL, max_len=12)
    light = SuanOptions(kind="lightsuan", window=3, dilation=4)
    dense, sparse = (model_size(grade, o, SCHEMA) for o in (SuanOptions(), light))
    width = grade.d * len(SCHEMA.behaviour)
    saved = grade.n_layers * 4 * 13 * (13 - 6) * width
    assert dense.flops_per_sample - sparse.flops_per_sample == saved
    assert dense.n_params == sparse.n_params


def test_training_costs_three_forward_passes_per_sample():
    size = model_size(SMALL, SuanOptions(), SCHEMA)
    assert size.training_flops(10) == 30 * size.flops_per_sample


def test_the_history_length_costs_no_matrix_parameters():
    short, long = (
        model_size(replace(SMALL, max_len=n), SuanOptions(bias="none"), SCHEMA) for n in (6, 60)
    )
    assert short.n_params == long.n_params
