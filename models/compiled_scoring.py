"""The pass over a request's candidates, compiled ahead of time by torch.export and AOTInductor.

Compiling takes minutes and a C++ compiler, and holds for the kind of processor that it was done on; it saves about two
thirds of the time of a cached request (`benchmarks/light.py compiled`), most of which is calls. The encoding of a
history is left as it is: its time is in its products.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from models.suan import SUAN
from models.user_state import UserState, score_candidates

__all__ = ["compile_scoring", "load_scoring"]

# Candidates and behaviours that the compiled pass takes at most; one alone is scored without it.
_MOST_CANDIDATES = 65_536


class _Scoring(nn.Module):
    """`score_candidates` with a state taken apart."""

    def __init__(self, model: SUAN) -> None:
        super().__init__()
        self.model = model

    def forward(
        self,
        request: tuple[Tensor, Tensor],
        ids: tuple[Tensor, Tensor],
        numeric: Tensor,
        state: tuple[Tensor, ...],
    ) -> Tensor:
        return score_candidates(
            self.model, UserState.from_tensors(self.model, state), request, ids, numeric
        )


@torch.no_grad()
def compile_scoring(model: SUAN, state: UserState, path: Path | str) -> None:
    """Compile the scoring of any number of candidates for any user, and write it to `path` (.pt2).

    Args:
        model: on the CPU, in evaluation mode.
        state: of any user with two behaviours at least.
        path: a file of its own.
    """
    n_candidates = 3
    n_features = [len(getattr(model.embeddings, f"_{group}")) for group in ("candidate", "context")]
    ids = tuple(torch.ones(n_candidates, n, dtype=torch.int64) for n in n_features)
    n_numeric = 0 if model.normalize_numeric is None else model.normalize_numeric.num_features
    numeric = torch.zeros(n_candidates, n_numeric, dtype=model.embeddings.weight.dtype)
    request = torch.tensor([1_700_000_000]), torch.tensor([1])
    rows = torch.export.Dim("candidates", min=2, max=_MOST_CANDIDATES)
    keys = torch.export.Dim("keys", min=2, max=model.grade.max_len)
    n_keys = len(state.key_times)
    of_state: list[dict[int, Any]] = [{}, {}, {0: keys}, {0: keys}, {}]
    of_state += [
        {1: keys} if part.dim() == 3 and part.shape[1] == n_keys > 1 else {}
        for part in state.tensors[5:]
    ]
    dynamic: Any = ({}, {}), ({0: rows}, {0: rows}), {0: rows}, tuple(of_state)
    arguments = request, ids, numeric, state.tensors
    exported = torch.export.export(_Scoring(model), arguments, dynamic_shapes=dynamic)
    torch._inductor.aoti_compile_and_package(exported, package_path=str(path))


def load_scoring(path: Path | str) -> Callable[..., Tensor]:
    """Return the compiled pass."""
    loaded: Callable[..., Tensor] = torch._inductor.aoti_load_package(str(path))
    return loaded
