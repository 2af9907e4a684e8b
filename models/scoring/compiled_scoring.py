"""The pass over a request's candidates, compiled ahead of time by torch.export and AOTInductor.

Compiling takes minutes and needs a C++ compiler, and the result runs only on the same kind of processor. It saves more
than half of the time of a cached request (`benchmarks/light.py compiled`), most of which is call overhead. The encoding of
a history is not compiled, because matrix products take most of its time.
"""

import json
import textwrap
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from models.ctr_model import CTRModel
from models.scoring.user_state import UserState, fingerprint, score_candidates

__all__ = ["MOST_CANDIDATES", "compile_scoring", "load_scoring"]


# Largest number of candidates for the compiled pass; more, or a single one, are scored without it.
MOST_CANDIDATES = 65_536
# Key of the package's metadata, whose value is the fingerprint of the model whose weights are inside.
_MODEL = "ctr_scaling_model"


class _Scoring(nn.Module):
    """`score_candidates` with a state taken apart."""

    def __init__(self, model: CTRModel) -> None:
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
def compile_scoring(model: CTRModel, state: UserState, path: Path | str) -> None:
    """Compile the scoring of any number of candidates for any user, and write it to `path` (.pt2).

    Args:
        model: on the CPU, in evaluation mode.
        state: of any user with at least two behaviours.
        path: the file to write.

    Raises:
        ValueError: an argument is not as described.
    """
    path, n_keys, model_name = Path(path), len(state.key_times), fingerprint(model)
    if path.suffix != ".pt2" or not path.absolute().parent.is_dir():
        raise ValueError(f"{path}: expected a file NAME.pt2 in a folder that is there")
    if model.embeddings.weight.device.type != "cpu":
        raise ValueError(f"model: on {model.embeddings.weight.device}, expected on the CPU")
    if state.model != model_name:
        raise ValueError("state: of another model; encode a history with the one to compile")
    if n_keys < 2:
        raise ValueError(
            f"state: of a user of whom candidates read {n_keys} behaviours, expected two at least"
        )
    n_candidates = 3
    widths = [model.embeddings.cells[group].n_columns for group in ("candidate", "context")]
    ids = tuple(torch.ones(n_candidates, n, dtype=torch.int64) for n in widths)
    n_numeric = 0 if model.normalize_numeric is None else model.normalize_numeric.num_features
    numeric = torch.zeros(n_candidates, n_numeric, dtype=model.embeddings.weight.dtype)
    request = torch.tensor([1_700_000_000]), torch.tensor([1])
    rows = torch.export.Dim("candidates", min=2, max=MOST_CANDIDATES)
    keys = torch.export.Dim("keys", min=2, max=model.grade.max_len)
    of_state: list[dict[int, Any]] = [{}, {}, {0: keys}, {0: keys}, {}]
    of_state += [
        {1: keys} if part.dim() == 3 and part.shape[1] == n_keys > 1 else {}
        for part in state.tensors[5:]
    ]
    dynamic: Any = ({}, {}), ({0: rows}, {0: rows}), {0: rows}, tuple(of_state)
    arguments = request, ids, numeric, state.tensors
    exported = torch.export.export(_Scoring(model), arguments, dynamic_shapes=dynamic)
    torch._inductor.aoti_compile_and_package(
        exported,
        package_path=str(path),
        inductor_configs={"aot_inductor.metadata": {_MODEL: model_name}},
    )


def load_scoring(path: Path | str, model: str) -> Callable[..., Tensor]:
    """Return the compiled pass of the model with this fingerprint.

    Raises:
        OSError: there is no such file.
        ValueError: it is not a compiled pass, or it is for another model or another machine.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; `compile_scoring` writes it")
    try:
        with zipfile.ZipFile(path) as package:
            names = [name for name in package.namelist() if name.endswith("_metadata.json")]
            kept = {json.loads(package.read(name)).get(_MODEL) for name in names}
    except (zipfile.BadZipFile, ValueError) as error:
        raise ValueError(f"{path}: not a compiled pass ({error}); compile it again") from error
    if not any(kept):
        raise ValueError(f"{path}: does not say whose pass it is; compile it again")
    if model not in kept:
        raise ValueError(f"{path}: the pass of another model; compile this one's")
    try:
        loaded: Callable[..., Tensor] = torch._inductor.aoti_load_package(str(path))
    except RuntimeError as error:
        reason = textwrap.shorten(str(error), 160, placeholder=" ...")
        raise ValueError(f"{path}: cannot be loaded here ({reason}); compile it here") from error
    return loaded
