"""Attention of candidates: each reads its history and itself, never another candidate.

Shapes: B batch, L behaviours, M candidates, S keys of the history that a candidate reads, D token width, H heads.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from models.attention.layout import MASKED
from models.attention.sparse import gap_buckets
from models.sparse_pattern import SparsePattern

__all__ = ["CandidateKeys", "attend_history", "find_keys"]


@dataclass(frozen=True)
class CandidateKeys:
    """What candidates read of a history.

    Attributes:
        columns: of the history, [S] shared by all candidates or [B, M, S] for each candidate; None: all L.
        bias_BMS: [B, M, S + 1], the candidate itself last; keys that may not be read are masked.
    """

    columns: Tensor | None
    bias_BMS: Tensor


def find_keys(
    tables: tuple[Tensor | None, Tensor | None],
    times: tuple[Tensor, Tensor],
    lengths: Tensor,
    pattern: SparsePattern | None = None,
    ends: Tensor | None = None,
    dtype: torch.dtype = torch.float32,
) -> CandidateKeys:
    """Return the keys that candidates read, with their bias.

    Args:
        tables: the relative bias by distance [L + 1 at least] and by time bucket; None: without it.
        times: seconds of the behaviours [B, L] and of the candidates' requests [B, M], int64.
        lengths: valid behaviours [B], on the right.
        pattern: of LightSUAN; None: the whole history is read.
        ends: [B, M] columns of the history before each candidate's request; None: all of them.
        dtype: of the bias.
    """
    of_history, of_candidates = times
    n_history = of_history.shape[1]
    if pattern is None:
        distances = torch.arange(n_history, 0, -1, device=lengths.device)
    else:
        # made on the device: a copy from the host would wait for it
        distances = torch.cat(
            [
                torch.arange(len(part), device=lengths.device) * part.step + part.start
                for part in pattern.distance_ranges(n_history + 1)
            ]
        )
    position, time = tables
    columns = n_history - distances if ends is None else ends[..., None] - distances
    first = (n_history - lengths)[:, None, None]
    readable = (columns >= first).expand(*of_candidates.shape, -1)
    if ends is not None:
        keys = of_history[:, None].expand(-1, columns.shape[1], -1).gather(2, columns.clamp(min=0))
    else:
        keys = of_history[:, None, columns]
    bias_BMS = torch.zeros(readable.shape, dtype=dtype, device=lengths.device)
    own = torch.zeros(1, dtype=dtype, device=lengths.device)
    if position is not None:
        bias_BMS = position[distances].expand(readable.shape)
        own = position[:1]
    if time is not None:
        buckets = gap_buckets(of_candidates[..., None] - keys)
        bias_BMS = bias_BMS + time.index_select(0, buckets.view(-1)).view(readable.shape)
        own = own + time[:1]
    bias_BMS = bias_BMS.masked_fill(~readable, MASKED)
    bias_BMS = torch.cat([bias_BMS, own.expand(*readable.shape[:2], 1)], -1)
    everything = pattern is None and ends is None
    return CandidateKeys(None if everything else columns.clamp(min=0), bias_BMS)


def attend_history(
    qkv_BMX: Tensor, keys_values_BLX: Tensor, keys: CandidateKeys, n_heads: int
) -> Tensor:
    """Return softmax(q k' / sqrt(E) + bias) v for candidates over their history and themselves, [B, M, D].

    Args:
        qkv_BMX: the candidates' q, k and v, [B, M, 3 D].
        keys_values_BLX: the history's k and v, [B, L, 2 D].
        keys: which of them are read.
        n_heads: H.
    """
    batch, n_candidates, triple = qkv_BMX.shape
    size = triple // 3 // n_heads
    if keys.columns is None:
        read = keys_values_BLX
    elif keys.columns.dim() == 1:
        read = keys_values_BLX.index_select(1, keys.columns)
    else:
        rows = torch.arange(batch, device=qkv_BMX.device)[:, None, None]
        read = keys_values_BLX[rows, keys.columns]
    # groups of candidates that share their keys: all of them, or each its own
    alone = keys.columns is not None and keys.columns.dim() == 3
    n_groups = n_candidates if alone else 1
    q, k, v = qkv_BMX.view(batch, n_groups, -1, 3, n_heads, size).transpose(2, 4).unbind(3)
    read = read.view(batch, n_groups, -1, 2, n_heads, size).transpose(2, 4)
    read_k, read_v = read.unbind(3)  # [B, groups, H, S, E]
    scores = torch.cat([q @ read_k.mT, (q * k).sum(-1, keepdim=True)], -1) * size**-0.5
    bias = keys.bias_BMS.view(batch, n_groups, 1, -1, scores.shape[-1])
    weights = torch.softmax(scores + bias, -1)
    attended = weights[..., :-1] @ read_v + weights[..., -1:] * v
    return attended.transpose(2, 3).reshape(batch, n_candidates, -1)
