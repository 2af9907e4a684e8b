"""The two optimisers of a run: AdamW for the dense part, lazy Adam for the feature table."""

import math

import torch
from torch import Tensor

from models.ctr_model import CTRModel
from models.embeddings import sum_rows
from scaling.study import BETAS

__all__ = ["LazyAdam", "build_optimisers"]


class LazyAdam(torch.optim.Optimizer):
    """Adam on the rows that occur in a batch; other rows keep their moments and cost nothing.

    The update rule is that of torch's SparseAdam; the gradient is summed without sorting its rows.
    """

    def __init__(self, table: Tensor, lr: float, betas: tuple[float, float] = BETAS) -> None:
        super().__init__([table], {"lr": lr, "betas": betas, "eps": 1e-8})
        self._scratch = torch.empty(len(table), dtype=torch.int64, device=table.device)

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]
        """Update the rows of the table's sparse gradient."""
        group = self.param_groups[0]
        (table,) = group["params"]
        state = self.state[table]
        if not state:
            state["step"] = torch.zeros(())
            state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(table), torch.zeros_like(table)
        state["step"] += 1
        step, (beta1, beta2) = float(state["step"]), group["betas"]
        # the gradients of a batch's parts are concatenated; rows are distinct within a part
        rows, grad = sum_rows(table.grad._indices()[0], table.grad._values(), self._scratch)
        mean = state["exp_avg"][rows].lerp_(grad, 1 - beta1)
        square = state["exp_avg_sq"][rows].lerp_(grad.square(), 1 - beta2)
        state["exp_avg"][rows], state["exp_avg_sq"][rows] = mean, square
        rate = group["lr"] * math.sqrt(1 - beta2**step) / (1 - beta1**step)
        table[rows] -= mean.div_(square.sqrt_().add_(group["eps"])).mul_(rate)


def build_optimisers(model: CTRModel) -> tuple[torch.optim.AdamW, LazyAdam]:
    """Return AdamW for the dense part and lazy Adam for the feature table; set their rates each step."""
    dense = [p for p in model.parameters() if p is not model.embeddings.weight]
    return (
        torch.optim.AdamW(dense, betas=BETAS, weight_decay=0.0, fused=True),
        LazyAdam(model.embeddings.weight, lr=1e-3),
    )
