"""Attention of HSTU: SiLU of the scores in place of a softmax, causal, with candidates that do not read each other.

Pairs of tokens are computed in blocks of queries, so that most of the masked future is left out.

Shapes: B passes, L behaviours, M candidates, H heads, E width of a head, m and n queries and keys of a block.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from models.attention import MASKED, Layout, gap_buckets

__all__ = ["Heads", "PairBlock", "Pairs", "find_pairs", "silu_attention"]


# Behaviours in a block of queries.
_QUERIES = 64


@dataclass(frozen=True)
class PairBlock:
    """Some queries and the keys that they may read.

    Attributes:
        queries, keys: their places in the history (of candidates: among the candidates).
        distance: behaviours from key to query, int64 [m, n], or [B, m, n] with `ends`.
        buckets: of the time between them, int32 [B, m, n].
        readable: bool [B, m, n].
    """

    queries: slice
    keys: slice
    distance: Tensor
    buckets: Tensor
    readable: Tensor


@dataclass(frozen=True)
class Pairs:
    """All pairs of a batch, the same for each layer: behaviours with behaviours, candidates with behaviours."""

    history: tuple[PairBlock, ...]
    candidates: PairBlock


@dataclass(frozen=True)
class Heads:
    """Queries and keys [B, N, H, E] and values [B, N, H, E']; no queries where nothing is to be read."""

    q: Tensor | None
    k: Tensor
    v: Tensor


def find_pairs(
    layout: Layout, seen_BML: Tensor, times_BN: Tensor, query_times_BN: Tensor | None = None
) -> Pairs:
    """Return the pairs of a batch.

    Args:
        layout: lengths, L, M and `ends`.
        seen_BML: behaviours that each candidate may read.
        times_BN: seconds, int64 [B, L + M].
        query_times_BN: seconds that a query counts from, if they are not its own.
    """
    n_history, valid = layout.n_history, layout.valid
    query_times_BN = times_BN if query_times_BN is None else query_times_BN
    columns = torch.arange(n_history, device=valid.device)
    blocks = []
    for start in range(0, n_history, _QUERIES):
        stop = min(start + _QUERIES, n_history)
        distance = columns[start:stop, None] - columns[:stop]
        blocks.append(
            PairBlock(
                slice(start, stop),
                slice(0, stop),
                distance.clamp(min=0),
                gap_buckets(query_times_BN[:, start:stop, None] - times_BN[:, None, :stop]),
                valid[:, None, :stop] & (distance >= 0),
            )
        )
    if layout.ends is None:
        places = columns.new_full((layout.n_candidates,), n_history)
    else:
        places = layout.ends
    gaps = query_times_BN[:, n_history:, None] - times_BN[:, None, :n_history]
    own = PairBlock(
        slice(0, layout.n_candidates),
        slice(0, n_history),
        (places[..., None] - columns).clamp(min=0),
        gap_buckets(gaps),
        seen_BML,
    )
    return Pairs(tuple(blocks), own)


def silu_attention(
    history: Heads,
    own: Heads,
    pairs: Pairs,
    tables: tuple[Tensor, Tensor] | None,
    *,
    scale: float,
    divisor: int,
) -> tuple[Tensor | None, Tensor]:
    """Return sum of SiLU(scale q k' + bias) v / divisor for behaviours [B, L, H E'] and candidates [B, M, H E'].

    Args:
        history: behaviours; without queries, nothing is returned for them.
        own: candidates; each also reads itself.
        pairs: who reads whom.
        tables: the bias by distance [L + 1] and by time bucket, shared by the heads; None: without bias.
        scale: of the products.
        divisor: of the sums.
    """
    assert own.q is not None
    k, v = history.k.transpose(1, 2), history.v.transpose(1, 2) / divisor
    read = None
    if history.q is not None:
        q = history.q.transpose(1, 2) * scale
        parts = [_read(q, k, v, block, tables) for block in pairs.history]
        read = torch.cat(parts, 2).transpose(1, 2).flatten(2) if parts else history.v.flatten(2)
    q = own.q * scale
    itself = (q * own.k).sum(-1, keepdim=True)
    if tables is not None:
        itself = itself + tables[0][0] + tables[1][0]
    read_own = _read(q.transpose(1, 2), k, v, pairs.candidates, tables).transpose(1, 2)
    return read, (read_own + F.silu(itself) * own.v / divisor).flatten(2)


def _read(
    q: Tensor, k: Tensor, v: Tensor, block: PairBlock, tables: tuple[Tensor, Tensor] | None
) -> Tensor:
    """Return what the queries of a block read, [B, H, m, E']."""
    if tables is None:
        bias = torch.zeros(block.readable.shape, dtype=q.dtype, device=q.device)
    else:
        position, time = tables
        bias = time.index_select(0, block.buckets.reshape(-1)).view(block.buckets.shape)
        bias = bias + position.index_select(0, block.distance.reshape(-1)).view(
            block.distance.shape
        )
    bias = bias.masked_fill(~block.readable, MASKED)  # SiLU of it is zero
    scores = q[:, :, block.queries] @ k[:, :, block.keys].mT
    return F.silu(scores.add_(bias.unsqueeze(1))) @ v[:, :, block.keys]
