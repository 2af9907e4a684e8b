"""Our SUAN equals the plain one of the benchmark: forward and gradients."""

import importlib.util
from pathlib import Path

import pytest
import torch

from models.grades import Grade
from models.kinds.building import build_model
from models.model_options import SuanOptions
from scaling.batches.gather import gather_batch

_path = Path(__file__).parents[2] / "benchmarks" / "plain_suan.py"
_spec = importlib.util.spec_from_file_location("plain_suan", _path)
plain_suan = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(plain_suan)


@pytest.mark.parametrize("max_len", [5, 70])
def test_it_equals_the_plain_model(tiny_store, max_len):
    torch.manual_seed(0)
    grade = Grade(2, 2, 4, max_len)
    ours = build_model(grade, SuanOptions(), tiny_store.schema, base_rate=0.3, seed=0).double()
    for parameter in ours.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    plain = plain_suan.PlainSUAN(ours, tiny_store.schema)
    with torch.no_grad():
        ours.embeddings.weight[0] = 0
    batch = gather_batch(tiny_store, torch.arange(0, 1200, 40).numpy(), max_len)
    a, b = ours(batch), plain(batch)
    assert (a - b).abs().max() < 1e-11 * b.abs().max()  # float64, sums in another order
    weights = torch.randn_like(a)
    (a * weights).sum().backward()
    (b * weights).sum().backward()
    reference = plain.tables["item"].weight.grad[1:]
    first = list(tiny_store.schema.vocabularies).index("item")
    sizes = list(tiny_store.schema.vocabularies.values())
    start = 1 + sum(size - 1 for size in sizes[:first])
    mine = ours.embeddings.weight.grad.to_dense()[start : start + len(reference)]
    assert (mine - reference).abs().max() < 1e-10 * reference.abs().max()
    bias = plain.time_bias.weight.grad[:, 0]
    assert (ours.encoder.bias.time.grad - bias).abs().max() < 1e-10 * bias.abs().max()
