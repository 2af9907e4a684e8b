"""How blocks are compiled: how many graphs a run has, whether as CUDA graphs, and that a second run is compiled again.

The compiler's front end runs on a CPU as on a GPU; the graphs are then run as they are.
"""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch._dynamo
from slow_cases import fast_only
from small_runs import small_config
from store_logs import make_log, write_log
from torch._dynamo.utils import counters

import models.attention.bias
import models.attention.dense
import models.fusion
import models.layers
from models.accounting import MemoryUse
from models.attention import SparseBias, flex
from models.grades import GRADES, Grade
from models.kinds.building import build_model
from models.model_options import EncoderOptions, SuanOptions
from scaling.batches import Epoch, Shapes, find_groups
from scaling.batches.fixed_shapes import padded
from scaling.batches.gather import gather_batch
from scaling.study import Distillation
from scaling.training import Training, compile_blocks, predict
from scaling.training.device import few_shapes, has_one_part

GRADE = Grade(2, 2, 6, 100)
RUNNING = SuanOptions(pooling="running", positions="start")
TEACHER = Distillation("SUAN-2", GRADES["SUAN-2"], SuanOptions(), 0.007, 1.0, 2.0)
# graphs: the first block, the last block and the head, for each shape
RUNS = {
    "plain": ({}, 3),
    "dropout": ({"model": SuanOptions(dropout=0.1)}, 3),
    "by request": ({"packing": "request"}, 3 * 5),
    "by stretch": ({"packing": "stretch", "model": RUNNING}, 3 * 3),
    "distilled": ({"distill": TEACHER}, 3 + 2),
}

# torch's compiler asks every tensor for its gradient
pytestmark = pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")


@pytest.fixture(autouse=True)
def _as_on_a_gpu(monkeypatch):
    torch.set_num_threads(1)
    for module in (models.layers, models.fusion, models.attention.bias, models.attention.dense):
        monkeypatch.setattr(module, "in_cache", lambda _: False)
    yield
    torch.compiler.reset()


def make_config(store, **changes):
    own = {"model": SuanOptions(), "data_order": "shared", "grade": GRADE, "n_samples": 330}
    return small_config(store, **(own | changes))


def trained(config, store, *, compiled, shapes=None):
    """The mean loss of an epoch, and how many graphs were compiled for it."""
    training = Training(config, store)
    if shapes is not None:
        training._shapes = shapes
    counters.clear()
    for model in training._models():
        if compiled:
            compile_blocks(model, "any GPU", graphs=False, backend="eager")
    epoch = Epoch(config, store, find_groups(config, store))
    training.advance(epoch, lambda: None)
    assert not counters["graph_break"]
    return training.mean_loss(epoch), counters["stats"]["unique_graphs"]


@pytest.mark.slow
@pytest.mark.parametrize("name", RUNS)
def test_an_epoch_of_varied_histories_needs_few_graphs(name, tiny_store):
    """And none breaks at dropout. Without padding the plain run has 22."""
    changes, n_graphs = RUNS[name]
    config = make_config(tiny_store, **changes)
    shapes = few_shapes(config, tiny_store.schema)
    _, found = trained(config, tiny_store, compiled=True, shapes=shapes)
    assert found <= n_graphs


@pytest.mark.parametrize("name", fast_only(["plain"], [name for name in RUNS if name != "dropout"]))
def test_padding_changes_the_loss_by_rounding(name, tiny_store):
    """Dropout masks are drawn by the shape, so they differ."""
    config = make_config(tiny_store, **RUNS[name][0])
    shapes = few_shapes(config, tiny_store.schema)
    padded, _ = trained(config, tiny_store, compiled=False, shapes=shapes)
    free, _ = trained(config, tiny_store, compiled=False)
    assert padded == pytest.approx(free, abs=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("packing", ["none", "request"])
def test_padding_does_not_count_in_the_statistics_of_numeric_features(packing, tmp_path):
    store = write_log(tmp_path / "log", make_log(n_events=2000, n_impressions=800, n_users=40))
    config = make_config(store, packing=packing)
    shapes = few_shapes(config, store.schema)
    assert shapes == Shapes(16, 100)
    padded, _ = trained(config, store, compiled=False, shapes=shapes)
    free, _ = trained(config, store, compiled=False)
    assert padded == pytest.approx(free, abs=1e-6)


@pytest.mark.slow
def test_a_second_run_in_a_process_is_compiled_again(tiny_store, monkeypatch):
    """Even if the first has gone beyond the limit, from which on torch compiles a function no more."""
    monkeypatch.setattr("scaling.training.device._MOST_GRAPHS", 2)
    config = make_config(tiny_store)
    trained(config, tiny_store, compiled=True)
    monkeypatch.setattr("scaling.training.device._MOST_GRAPHS", 8)
    shapes = few_shapes(config, tiny_store.schema)
    _, n_graphs = trained(config, tiny_store, compiled=True, shapes=shapes)
    assert n_graphs == 3


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # torch's own
def test_light_blocks_do_not_break_where_flex_attention_reads_the_sequence(tiny_store, monkeypatch):
    """Forward only, because FlexAttention has no backward on a CPU; its kernel is torch's reference."""
    monkeypatch.setattr(SparseBias, "_is_flex", lambda *_: True)
    monkeypatch.setattr(flex, "_kernel", lambda compiled: flex.flex_attention)
    light = SuanOptions(kind="lightsuan", window=3, dilation=10)
    model = build_model(Grade(2, 1, 16, 200), light, tiny_store.schema, base_rate=0.3, seed=0)
    batch = padded(gather_batch(tiny_store, np.arange(1100, 1104), 200), Shapes(4, 200))
    with torch.no_grad():
        expected = model(batch)
        counters.clear()
        compile_blocks(model, "any GPU", graphs=False, backend="eager")
        torch.testing.assert_close(model(batch), expected)
    assert counters["stats"]["unique_graphs"] > 0
    assert not counters["graph_break"]


@pytest.mark.slow
def test_evaluation_runs_no_compiled_block(tiny_store):
    """What is compiled inside a block, as FlexAttention, stays so."""
    training = Training(make_config(tiny_store), tiny_store)
    compile_blocks(training.model, "any GPU", graphs=False, backend="eager")
    counters.clear()
    predict(training.model, tiny_store, 100)
    assert not counters["stats"]["unique_graphs"]
    training.model(gather_batch(tiny_store, np.arange(4), 100))
    assert counters["stats"]["unique_graphs"] > 0


def test_cuda_graphs_are_for_steps_of_one_part(tiny_store):
    config = make_config(tiny_store)
    fits, one_less = (MemoryUse(config.batch_size * 101 - lacking) for lacking in (0, 1))
    assert has_one_part(config, fits)
    assert not has_one_part(config, one_less)
    assert has_one_part(config, one_less, n_ranks=2)
    assert not has_one_part(replace(config, packing="request"), MemoryUse(10**9))


@pytest.mark.parametrize(
    ("tokens", "recomputes", "graphs"), [(2000, False, True), (1000, False, False), (2000, True, False)]
)  # fmt: skip
def test_a_training_compiles_for_its_parts(tiny_store, monkeypatch, tokens, recomputes, graphs):
    """Gradients lie in the memory of a CUDA graph, which the next part overwrites."""
    found = []
    memory = MemoryUse(tokens, recomputes)
    monkeypatch.setattr("scaling.training.loop.memory_use", lambda *_: memory)
    monkeypatch.setattr(
        "scaling.training.loop.compile_blocks", lambda *_, graphs: found.append(graphs)
    )
    training = Training(make_config(tiny_store), tiny_store, "cpu:0", compiled=True)
    assert found == [graphs]
    assert training._shapes == Shapes(16, 100)


def test_passes_are_not_padded_where_a_layer_takes_their_statistics(tiny_store):
    config, schema = make_config(tiny_store), tiny_store.schema
    assert few_shapes(config, schema) == Shapes(16, 100)
    assert few_shapes(config, schema, n_ranks=3) == Shapes(6, 100)
    assert few_shapes(replace(config, model=EncoderOptions("din")), schema) == Shapes(None, 100)
