"""Lazy Adam: torch's SparseAdam, faster."""

from copy import deepcopy

import pytest
import torch

from models.embeddings import sum_rows
from scaling.training.optimisers import LazyAdam


def sparse_gradient(rows, values, shape):
    return torch.sparse_coo_tensor(rows.unsqueeze(0), values, shape, check_invariants=False)


def test_lazy_adam_follows_torchs_sparse_adam() -> None:
    torch.manual_seed(0)
    start = torch.randn(50, 3, dtype=torch.float64)
    ours, reference = start.clone().requires_grad_(), start.clone().requires_grad_()
    lazy = LazyAdam(ours, lr=0.01, betas=(0.9, 0.98))
    torchs = torch.optim.SparseAdam([reference], lr=0.01, betas=(0.9, 0.98))
    for n_rows in (40, 7, 1, 60):
        rows, values = torch.randint(50, (n_rows,)), torch.randn(n_rows, 3, dtype=torch.float64)
        ours.grad = sparse_gradient(rows, values, ours.shape)
        reference.grad = ours.grad.clone()
        lazy.step()
        torchs.step()
        torch.testing.assert_close(ours, reference, rtol=1e-12, atol=1e-14)


def test_rows_without_a_gradient_do_not_move() -> None:
    table = torch.ones(10, 2, requires_grad=True)
    lazy = LazyAdam(table, lr=0.1)
    table.grad = sparse_gradient(torch.tensor([3]), torch.ones(1, 2), table.shape)
    lazy.step()
    assert (table.detach() != 1).any(1).nonzero().tolist() == [[3]]


def test_a_restored_lazy_adam_goes_on_as_the_original() -> None:
    torch.manual_seed(0)
    table = torch.randn(20, 2, requires_grad=True)
    lazy = LazyAdam(table, lr=0.1)
    gradients = [
        sparse_gradient(torch.randint(20, (8,)), torch.randn(8, 2), table.shape) for _ in range(4)
    ]
    for gradient in gradients[:2]:
        table.grad = gradient
        lazy.step()
    copy = table.detach().clone().requires_grad_()
    restored = LazyAdam(copy, lr=0.1)
    restored.load_state_dict(deepcopy(lazy.state_dict()))
    for gradient in gradients[2:]:
        table.grad = copy.grad = gradient
        lazy.step()
        restored.step()
    assert torch.equal(table, copy)


@pytest.mark.parametrize("n_rows", [1, 5, 1000])
def test_equal_rows_are_summed(n_rows: int) -> None:
    torch.manual_seed(n_rows)
    rows, values = torch.randint(30, (n_rows,)), torch.randn(n_rows, 4, dtype=torch.float64)
    scratch = torch.randint(-(2**40), 2**40, (30,))  # whatever lies there
    distinct, sums = sum_rows(rows, values, scratch)
    expected = torch.zeros(30, 4, dtype=torch.float64).index_add_(0, rows, values)
    assert sorted(distinct.tolist()) == sorted(set(rows.tolist()))
    torch.testing.assert_close(sums, expected[distinct], rtol=1e-12, atol=1e-12)
