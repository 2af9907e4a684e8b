"""Training in bfloat16, on a CPU under autocast: it works for every kind, and no sum over rows is kept in bfloat16."""

import pytest
import torch
from encoder_inputs import SmallSchema
from torch.utils._python_dispatch import TorchDispatchMode

from models.grades import Grade
from models.kinds import KINDS, options_of, options_type
from models.kinds.building import build_model
from models.kinds.measured_size import empty_batch
from models.model_options import SuanOptions

SCHEMA = SmallSchema(
    vocabularies={"item": 40, "category": 9, "action": 4, "position": 6, "age": 7, "city": 8}
)
# a sum of many rows by their numbers, in which each addition rounds
SUMS = {"index_add", "index_add_", "scatter_add", "scatter_add_", "embedding_dense_backward"}


class SumsInBfloat16(TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.found = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function._schema.name.split("::")[1]
        if name in SUMS and args[0].dtype == torch.bfloat16:
            self.found.append(f"{name} {tuple(args[0].shape)}")
        return function(*args, **(kwargs or {}))


def batch(n_history):
    # long enough that LightSUAN computes its own pairs alone
    generator = torch.Generator().manual_seed(0)
    one = empty_batch(SCHEMA, n_history, 1, "cpu")
    one.behaviours[:] = torch.randint(1, 4, one.behaviours.shape, generator=generator)
    one.times[:] = torch.randint(10**6, one.times.shape, generator=generator).sort(1).values
    one.hours[:] = torch.randint(1, 25, one.hours.shape, generator=generator)
    one.candidate[:], one.profile[:], one.context[:] = 2, 3, 1
    return one


def gradients(kind, *, bfloat16):
    light = SuanOptions(kind="lightsuan", window=8, dilation=8)
    own = {"suan": SuanOptions(), "lightsuan": light}
    options = options_of(kind, own.get(kind) or options_type(kind)())
    model = build_model(Grade(2, 2, 4, 300), options, SCHEMA, base_rate=0.3, seed=0)
    with SumsInBfloat16() as sums:
        with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
            logits = model(batch(300)).float()
        torch.nn.functional.softplus(logits).sum().backward()
    grads = [p.grad.to_dense() for p in model.parameters() if p.grad is not None]
    return torch.cat([grad.flatten() for grad in grads]), sums.found


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_are_those_of_float32_within_its_rounding(kind):
    ours, exact = (gradients(kind, bfloat16=on)[0] for on in (True, False))
    # 8 bits of mantissa, through a few layers
    assert (ours - exact).norm() < 0.05 * exact.norm()


@pytest.mark.parametrize("kind", KINDS)
def test_no_sum_over_rows_is_kept_in_bfloat16(kind):
    assert gradients(kind, bfloat16=True)[1] == []
