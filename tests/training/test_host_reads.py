"""A training step on a GPU never waits for it: no operation of a step needs a value that the device computes.

The operations are those for a GPU, run on a CPU.
"""

from types import SimpleNamespace

import pytest
import torch
from list_logs import write_list_store
from slow_cases import fast_only
from small_runs import small_config
from store_logs import make_log, write_log
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

import models.attention.bias
import models.attention.dense
import models.embeddings
import models.fusion
import models.layers
from models.accounting import MemoryUse
from models.attention import flex
from models.embeddings import sum_rows
from models.grades import GRADES
from models.model_options import SuanOptions
from scaling.batches import Epoch, find_groups
from scaling.study import Distillation
from scaling.training import Training
from scaling.training.optimisers import LazyAdam

LIGHT = SuanOptions(kind="lightsuan", window=3, dilation=4)
RUNNING = SuanOptions(pooling="running", positions="start")
TEACHER = Distillation("SUAN-2", GRADES["SUAN-2"], SuanOptions(), 0.007, 1.0, 2.0)
RUNS = {
    "plain": {},
    "dropout": {"model": SuanOptions(dropout=0.1)},
    "by request": {"packing": "request"},
    "by stretch": {"packing": "stretch", "model": RUNNING},
    "LightSUAN": {"model": LIGHT},
    "LightSUAN by request": {"model": LIGHT, "packing": "request"},
    "distilled": {"distill": TEACHER},
    "distilled by request": {"distill": TEACHER, "packing": "request"},
    "bfloat16": {"precision": "bf16"},
}

# operations whose result has a size or a type on the host that depends on values
READS = (
    "_local_scalar_dense", "item", "is_nonzero", "equal", "nonzero", "nonzero_numpy", "argwhere", "masked_select",
    "unique_dim", "unique_consecutive", "_unique", "_unique2", "_coalesce", "bincount", "masked_scatter",
)  # fmt: skip
# a tensor from numbers of the host: its copy waits
COPIES = ("lift_fresh", "lift_fresh_copy")
LEAVES = ("tolist", "numpy", "__array__", "cpu", "__bool__", "__float__", "__int__", "__index__")


class DeviceReadError(Exception):
    """The host would have waited."""


class _Operations(TorchDispatchMode):
    def __init__(self, on_host):
        super().__init__()
        self.on_host = on_host

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        if name in READS + COPIES and id(args[0]) not in self.on_host:
            raise DeviceReadError(str(func))
        if name.startswith(("index", "_index_put", "_unsafe_index")) and len(args) > 1:
            indices = args[1] if isinstance(args[1], (list, tuple)) else ()
            if any(i is not None and i.dtype in (torch.bool, torch.uint8) for i in indices):
                raise DeviceReadError(f"{func} by a mask")
        if name == "repeat_interleave" and (kwargs or {}).get("output_size") is None:
            raise DeviceReadError(str(func))
        return func(*args, **(kwargs or {}))


class _Methods(TorchFunctionMode):
    """Methods that leave torch without an operation of its own."""

    def __init__(self, on_host):
        super().__init__()
        self.on_host = on_host

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if getattr(func, "__name__", "") in LEAVES and id(args[0]) not in self.on_host:
            raise DeviceReadError(func.__name__)
        return func(*args, **(kwargs or {}))


class no_reads:
    """Raise DeviceReadError where the host reads a tensor, except those `on_host`."""

    def __init__(self, *on_host):
        ids = {id(x) for x in on_host}
        self.modes = _Methods(ids), _Operations(ids)

    def __enter__(self):
        for mode in self.modes:
            mode.__enter__()

    def __exit__(self, *error):
        for mode in reversed(self.modes):
            mode.__exit__(*error)


@pytest.fixture
def as_on_a_gpu(monkeypatch):
    for module in (models.layers, models.fusion, models.attention.bias, models.attention.dense):
        monkeypatch.setattr(module, "in_cache", lambda _: False)
    monkeypatch.setattr(models.embeddings, "host_may_read", lambda _: False)


def started(store, **changes):
    """A training after its first step, whose optimisers have their state, and the parts of its second batch."""
    config = small_config(store, **({"model": SuanOptions(), "data_order": "shared"} | changes))
    training = Training(config, store)
    training._memory = MemoryUse(tokens=20)
    steps = training._batches(Epoch(config, store, find_groups(config, store)))
    first, second = next(steps), next(steps)
    assert len(first + second) > 2  # some step has several parts
    training._train_step(first, 16, 0.5)
    return training, second


def step_numbers(training):
    """The numbers of steps, which the optimisers of tables keep on the host."""
    tables = [
        optimiser
        for learner in training._learners()
        for optimiser, _ in learner._optimisers
        if isinstance(optimiser, LazyAdam)
    ]
    return [state["step"] for table in tables for state in table.state.values()]


@pytest.mark.parametrize("name", RUNS)
def test_a_step_reads_nothing_from_the_device(name, tiny_store, as_on_a_gpu):
    training, parts = started(tiny_store, **RUNS[name])
    with no_reads(*step_numbers(training)):
        training._train_step(parts, 16, 0.5)


@pytest.mark.parametrize("packing", ["none", "request"])
def test_a_step_with_numeric_features_reads_nothing(packing, tmp_path, as_on_a_gpu):
    store = write_log(tmp_path / "log", make_log(n_events=2000, n_impressions=800, n_users=40))
    training, parts = started(store, packing=packing)
    with no_reads(*step_numbers(training)):
        training._train_step(parts, 16, 0.5)


@pytest.mark.parametrize("packing", ["none", "request"])
def test_a_step_with_cells_of_several_ids_reads_nothing(packing, tmp_path, as_on_a_gpu):
    store = write_list_store(tmp_path / "store", n_events=2000, n=900)
    training, parts = started(store, packing=packing)
    with no_reads(*step_numbers(training)):
        training._train_step(parts, 16, 0.5)


def test_the_block_masks_of_flex_attention_read_nothing(monkeypatch):
    """The kernel itself is compiled for a GPU only; here its result is anything of the right shape."""

    def kernel(q, k, v, score, block_mask, **_):
        return q, SimpleNamespace(lse=q[..., 0])

    monkeypatch.setattr(flex, "_kernel", lambda compiled: kernel)
    bias = flex.FlexBias(
        LIGHT.pattern, torch.randn(40), torch.randn(80), torch.arange(74).view(2, 37), torch.tensor([37, 20])
    )  # fmt: skip
    with no_reads():
        assert flex.flex_sparse_attention(torch.randn(2, 37, 96), bias, 2).shape == (2, 37, 32)


@pytest.mark.parametrize(
    "read",
    [
        lambda x: x.sum().item(),
        lambda x: x[x > 0],
        lambda x: x.tolist(),
        lambda x: bool((x > 0).any()),
        lambda x: torch.tensor([1.0]) + x,
        lambda x: torch.equal(x, x),
        lambda x: x.clone().__setitem__(x > 0, x[:1]),
        lambda x: x.unique(),
        lambda x: x.numpy(),
    ],
)
def test_a_read_is_noticed(read):
    x = torch.ones(3)
    read(x)
    with pytest.raises(DeviceReadError), no_reads():
        read(x)


def test_the_operations_for_a_cpu_would_read(tiny_store):
    training, parts = started(tiny_store)
    with pytest.raises(DeviceReadError), no_reads(*step_numbers(training)):
        training._train_step(parts, 16, 0.5)


@pytest.mark.parametrize("n_rows", [0, 1, 5, 1000])
def test_equal_rows_are_summed_without_a_read(n_rows, as_on_a_gpu):
    """Every row comes once, and padding fills the rest."""
    torch.manual_seed(n_rows)
    rows, values = torch.randint(30, (n_rows,)), torch.randn(n_rows, 4, dtype=torch.float64)
    values[rows == 0] = 0
    scratch = torch.randint(-(2**40), 2**40, (30,))  # whatever lies there
    slots, sums = sum_rows(rows, values, scratch)
    assert len(slots) == n_rows
    own = slots[slots > 0].tolist()
    assert sorted(own) == sorted(set(rows.tolist()) - {0})
    assert not sums[slots == 0].any()
    expected = torch.zeros(30, 4, dtype=torch.float64).index_add_(0, rows, values)
    torch.testing.assert_close(sums, expected[slots], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", fast_only(["plain"], RUNS))
def test_a_step_without_reads_changes_the_parameters_as_one_with_them(
    name, tiny_store, monkeypatch
):
    """To the bit: sums have the same terms in the same order."""
    ends = []
    for may_read in (True, False):
        monkeypatch.setattr(models.embeddings, "host_may_read", lambda _, may=may_read: may)
        training, parts = started(tiny_store, **RUNS[name])
        loss = training._train_step(parts, 16, 0.5)
        ends.append([loss, *(p.detach() for p in training.model.parameters())])
    for one, other in zip(*ends, strict=True):
        assert torch.equal(one, other)
