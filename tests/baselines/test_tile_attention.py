"""Few candidates as part of the sequence, on a CPU, give what the plain path gives."""

from dataclasses import replace

import pytest
import torch
from encoder_inputs import SmallSchema, random_inputs

from models.baselines import BST, HSTU, BSTOptions, HSTUOptions, bst, hstu
from models.grades import Grade

# three blocks of queries, the last of which holds the candidates
LENGTHS, N_HISTORY = [150, 149, 40, 1, 0], 150


def outputs_and_gradients(kind, options, inputs):
    torch.manual_seed(1)
    encoder = kind(Grade(2, 2, 4, N_HISTORY), options, SmallSchema()).double()
    for parameter in encoder.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    tokens = inputs.tokens_BND.clone().requires_grad_()
    read = encoder(replace(inputs, tokens_BND=tokens))
    weights = torch.linspace(-1, 1, read.numel(), dtype=read.dtype).view_as(read)
    (read * weights).sum().backward()
    return [read, tokens.grad, *(p.grad for p in encoder.parameters())]


@pytest.mark.parametrize(
    ("kind", "options", "module", "packing"),
    [
        (BST, BSTOptions(), bst, "request"),
        (BST, BSTOptions(positions="start"), bst, "stretch"),
        (HSTU, HSTUOptions(), hstu, "request"),
        (HSTU, HSTUOptions(), hstu, "stretch"),
        (HSTU, HSTUOptions(concat=True, bias=False), hstu, "stretch"),
    ],
    ids=str,
)
def test_one_sequence_gives_what_history_and_candidates_apart_give(
    kind, options, module, packing, monkeypatch
):
    inputs = random_inputs(LENGTHS, N_HISTORY, 3)
    if packing == "stretch":
        inputs = replace(inputs, ends=torch.tensor([[5, 80, 150]] * len(LENGTHS)))
    together = outputs_and_gradients(kind, options, inputs)
    monkeypatch.setattr(module, "FEW_CANDIDATES", 0)
    apart = outputs_and_gradients(kind, options, inputs)
    for one, other in zip(together, apart, strict=True):
        # float64, sums in another order
        assert (one - other).abs().max() < 1e-11 * other.abs().max().clamp(min=1)
