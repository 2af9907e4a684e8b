"""Encode one user's history once, then let candidates read it: the tensors behind `models.scoring.scorer`.

A candidate reads the history and itself, never another candidate, so it gets the same score as in a forward pass of
its own. This requires that a history's encoding does not depend on the candidate: `pooling` is behaviours or running,
or there is no dual alignment.

Shapes: L behaviours, M candidates, S keys that a candidate reads, D token width, P profile features; one user.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from models.attention import (
    Bias,
    CandidateKeys,
    Layout,
    RelativeBias,
    RunningMean,
    SparseBias,
    attend_history,
    gap_buckets,
)
from models.ctr_model import CTRModel
from models.embeddings import pool_cells
from models.suan import SUAN, UnifiedAttentionBlock

__all__ = ["BlockState", "UserState", "encode_user", "fingerprint", "score_candidates"]


class BlockState(NamedTuple):
    """What candidates need of one block.

    Attributes:
        keys_values: of the keys that they read, [1, S, 2 D].
        profile: the profile's keys and values, [1, P, H, D] each; empty without a fusion.
        gate: weights of the dual alignment under `pooling` behaviours, [1, 1, D]; else empty.
        total: sum of S + C over the history under `pooling` running, [1, 1, D]; else empty.
    """

    keys_values: Tensor
    profile: tuple[Tensor, ...] = ()
    gate: tuple[Tensor, ...] = ()
    total: tuple[Tensor, ...] = ()


@dataclass(frozen=True)
class UserState:
    """An encoded user, good for every request to its model until the history or the profile changes.

    Attributes:
        blocks: what candidates need of each block.
        profile: the embedded profile [1, P, d].
        n_behaviours: L, int64 [1].
        key_times: seconds of the keys that candidates read, int64 [S].
        key_bias: their bias by distance [S].
        last: the last behaviour's token [1, 1, D], zero without one; read by models that are not target-aware.
        model: `fingerprint` of the model that encoded it; no other can read it.
    """

    blocks: tuple[BlockState, ...]
    profile: Tensor
    n_behaviours: Tensor
    key_times: Tensor
    key_bias: Tensor
    last: Tensor
    model: str

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """All tensors of the state, those of the blocks last; `from_tensors` rebuilds the state from them."""
        parts = [self.profile, self.n_behaviours, self.key_times, self.key_bias, self.last]
        for block in self.blocks:
            parts += [block.keys_values, *block.profile, *block.gate, *block.total]
        return tuple(parts)

    @classmethod
    def from_tensors(cls, model: CTRModel, tensors: Sequence[Tensor]) -> "UserState":
        """Rebuild the state of `model`, unnamed, from these tensors."""
        parts, encoder = iter(tensors), suan_of(model)
        options = encoder.options
        profile, n_behaviours, key_times, key_bias, last = (next(parts) for _ in range(5))
        blocks = []
        for _ in encoder.blocks:
            kept: dict[str, tuple[Tensor, ...]] = {}
            keys_values = next(parts)
            if options.fusion != "none":
                kept["profile"] = (next(parts), next(parts))
            if options.fusion == "dual":
                kept["total" if options.pooling == "running" else "gate"] = (next(parts),)
            blocks.append(BlockState(keys_values, **kept))
        return cls(tuple(blocks), profile, n_behaviours, key_times, key_bias, last, "")

    @property
    def n_bytes(self) -> int:
        """Memory that this state takes."""
        return sum(part.numel() * part.element_size() for part in self.tensors)


def suan_of(model: CTRModel) -> SUAN:
    """Return the model's encoder, which has to be a SUAN."""
    assert isinstance(model.encoder, SUAN)
    return model.encoder


def fingerprint(model: CTRModel) -> str:
    """Return 64 hex digits that identify a model by its grade, options, inputs and parameters."""
    inputs = {
        group: getattr(model.embeddings, f"_{group}")
        for group in ("behaviour", "candidate", "context", "profile")
    }
    parts = (model.grade, model.options, model.slots)
    if not model.embeddings.plain:
        parts = (*parts, model.embeddings.cells)  # type: ignore[assignment]
    digest = hashlib.sha256(repr(parts).encode())
    for name, part in {**inputs, **model.state_dict()}.items():
        name = name.removeprefix("encoder.")
        digest.update(f"{name} {part.dtype} {tuple(part.shape)}\n".encode())
        digest.update(part.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def encode_user(
    model: CTRModel, behaviours: Tensor, times: Tensor, hours: Tensor, profile: Tensor, name: str
) -> UserState:
    """Encode a history.

    Args:
        model: in evaluation mode.
        behaviours: columns [L, c], oldest first, at most the model's L; see `models.ctr_model.Batch`.
        times: seconds [L], int64.
        hours: hour of the day plus one [L].
        profile: columns [c].
        name: the model's `fingerprint`, which is kept with the state.
    """
    embedded = embed(model, "profile", profile[None])
    if len(times) == 0:
        return _encode_nobody(model, times, embedded, name)
    encoder, n_behaviours = suan_of(model), len(times)
    options = encoder.options
    lengths = torch.tensor([n_behaviours], device=times.device)
    layout = Layout(lengths, n_behaviours, 0, None, options.pattern)
    x_BND = embed(model, "behaviour", behaviours[None]).flatten(2)
    positions = layout.positions(model.grade.max_len, options.positions)
    x_BND = encoder.place_tokens(x_BND, positions, hours[None])
    distances = torch.arange(n_behaviours, 0, -1, device=times.device)
    if options.pattern is not None:
        distances = distances.new_tensor(options.pattern.distances(n_behaviours + 1))
    columns = n_behaviours - distances
    bias = encoder.bias(times[None], layout, x_BND.dtype, skip_future=False)
    reader = _HistoryReader(layout, bias, columns, embedded)
    states = []
    for block in encoder.blocks:
        assert isinstance(block, UnifiedAttentionBlock)
        done = block is encoder.blocks[-1] and options.target_aware
        x_BND, state = reader.read(block, x_BND, keep_tokens=not done)
        states.append(state)
    table = encoder.bias.position
    key_bias = x_BND.new_zeros(len(columns)) if table is None else table[distances]
    last = x_BND[:, -1:]
    return UserState(tuple(states), embedded, lengths, times[columns], key_bias, last, name)


def _encode_nobody(model: CTRModel, times: Tensor, profile_BPd: Tensor, name: str) -> UserState:
    """A user without a history: candidates read themselves, and its means are zero."""
    states = []
    for block in suan_of(model).blocks:
        assert isinstance(block, UnifiedAttentionBlock)
        width = block.attention.qkv.in_features
        zero, fusion = profile_BPd.new_zeros(1, 1, width), block.fusion
        no_keys = profile_BPd.new_zeros(1, 0, 2 * width)
        if fusion is None:
            states.append(BlockState(no_keys))
            continue
        kept = {}
        if fusion.squeeze is not None:
            running = block.options.pooling == "running"
            kept = {"total": (zero,)} if running else {"gate": (fusion.gate(zero),)}
        states.append(BlockState(no_keys, fusion.keys_values(profile_BPd), **kept))
    no_bias, nothing = profile_BPd.new_zeros(0), times.new_zeros(1)
    return UserState(tuple(states), profile_BPd, nothing, times, no_bias, zero, name)


@dataclass
class _HistoryReader:
    """Runs a history through the blocks and saves the tensors that candidates will read."""

    layout: Layout
    bias: Bias | SparseBias
    columns: Tensor
    profile: Tensor

    def read(
        self, block: UnifiedAttentionBlock, x_BND: Tensor, *, keep_tokens: bool
    ) -> tuple[Tensor, BlockState]:
        """Return the tokens after the block, if they are still needed, and its state."""
        attention, fusion, n_tokens = block.attention, block.fusion, x_BND.shape[1]
        kept: dict[str, Tensor | tuple[Tensor, ...]] = {}

        def attend(s_BND: Tensor, stream_BND: Tensor) -> Tensor:
            qkv = attention.qkv(s_BND)
            kept["keys_values"] = qkv[:, self.columns, s_BND.shape[2] :]
            attended: Tensor = attention.out(self._attend(qkv, attention.n_heads))
            return stream_BND + attended

        def fuse(s_BND: Tensor, stream_BND: Tensor) -> Tensor:
            assert fusion is not None
            kept["profile"] = key, value = fusion.keys_values(self.profile)
            c_BND = fusion.attend(s_BND, key, value)
            if fusion.squeeze is None:
                return stream_BND + s_BND + c_BND
            both = s_BND + c_BND
            if block.options.pooling == "running":
                kept["total"] = (both.sum(1, keepdim=True),)
                gate = fusion.gate(RunningMean(self.layout)(both))
            else:
                gate = fusion.gate(both.mean(1, keepdim=True))
                kept["gate"] = (gate,)
            return stream_BND + c_BND + (s_BND - c_BND) * gate

        x_BND = block.residual(block.norm_attention, attend, x_BND, n_tokens, None)
        if fusion is not None and block.norm_fusion is not None:
            x_BND = block.residual(block.norm_fusion, fuse, x_BND, n_tokens, None)
        if keep_tokens:
            x_BND = block.residual(block.norm_ffn, block.ffn, x_BND, n_tokens, None)
        return x_BND, BlockState(**kept)  # type: ignore[arg-type]

    def _attend(self, qkv_BNX: Tensor, n_heads: int) -> Tensor:
        if isinstance(self.bias, SparseBias):
            return self.bias.attend(qkv_BNX, n_heads)
        (value,) = self.bias.values
        parts = qkv_BNX.view(*qkv_BNX.shape[:2], 3, n_heads, -1)
        q, k, v = parts.permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(q, k, v, attn_mask=value[:, None])
        return attended.transpose(1, 2).flatten(2)


def score_candidates(
    model: CTRModel,
    state: UserState,
    request: tuple[Tensor, Tensor],
    ids: tuple[Tensor, Tensor],
    numeric: Tensor,
) -> Tensor:
    """Return the logits of M candidates, [M].

    Args:
        model: that encoded the state.
        state: the user's.
        request: seconds and hour of the day plus one, int64 [1] each.
        ids: columns of the candidates and of their contexts, [M, c] each.
        numeric: [M, nf].
    """
    time, hour = request
    candidate, context = ids
    own = [embed(model, "candidate", candidate), embed(model, "context", context)]
    read_BMD = state.last.expand(-1, candidate.shape[0], -1)  # len() would fix it in an export
    encoder = suan_of(model)
    if encoder.options.target_aware:
        x_BMD = _tokens(model, candidate, own[0]).flatten(1)[None]
        at_end = encoder.options.positions == "end"
        place = hour.new_tensor([model.grade.max_len]) if at_end else state.n_behaviours
        x_BMD = encoder.place_tokens(x_BMD, place, hour[None])
        keys = _candidate_keys(encoder.bias, state, time)
        for block, cached in zip(encoder.blocks, state.blocks, strict=True):
            assert isinstance(block, UnifiedAttentionBlock)
            x_BMD = _read_state(block, x_BMD, cached, keys, state.n_behaviours)
        read_BMD = x_BMD
    own_BMC = torch.cat([part.flatten(1) for part in own], 1)[None]
    logits: Tensor = model.predict(read_BMD, state.profile, own_BMC, numeric[None])[0]
    return logits


def _tokens(model: CTRModel, candidate: Tensor, embedded: Tensor) -> Tensor:
    """The candidates in the slots of a behaviour, [M, n1, d]."""
    table = model.embeddings
    if not table.plain:
        return model.in_slots(embedded)
    return F.embedding(model.token_rows(table.rows("candidate", candidate)), table.weight)


def _candidate_keys(table: RelativeBias, state: UserState, time: Tensor) -> CandidateKeys:
    """The bias of the keys that candidates read, themselves last; their request is the same."""
    bias, own = state.key_bias, state.key_bias.new_zeros(1)
    if table.position is not None:
        own = own + table.position[:1]
    if table.time is not None:
        bias = bias + table.time[gap_buckets(time - state.key_times)]
        own = own + table.time[:1]
    return CandidateKeys(None, torch.cat([bias, own])[None, None])


def _read_state(
    block: UnifiedAttentionBlock,
    x_BMD: Tensor,
    state: BlockState,
    keys: CandidateKeys,
    n_history: Tensor,
) -> Tensor:
    """Take candidates through a block."""
    attention, fusion, n_candidates = block.attention, block.fusion, x_BMD.shape[1]

    def attend(s_BMD: Tensor, stream_BND: Tensor) -> Tensor:
        qkv = attention.qkv(s_BMD)
        attended: Tensor = attention.out(
            attend_history(qkv, state.keys_values, keys, attention.n_heads)
        )
        return stream_BND + attended

    def fuse(s_BMD: Tensor, stream_BND: Tensor) -> Tensor:
        assert fusion is not None
        key, value = state.profile
        c_BMD = fusion.attend(s_BMD, key, value)
        if fusion.squeeze is None:
            return stream_BND + s_BMD + c_BMD
        if state.gate:
            gate = state.gate[0]
        else:
            gate = fusion.gate((state.total[0] + s_BMD + c_BMD) / (n_history + 1))
        return stream_BND + c_BMD + (s_BMD - c_BMD) * gate

    x_BMD = block.residual(block.norm_attention, attend, x_BMD, n_candidates, None)
    if fusion is not None and block.norm_fusion is not None:
        x_BMD = block.residual(block.norm_fusion, fuse, x_BMD, n_candidates, None)
    return block.residual(block.norm_ffn, block.ffn, x_BMD, n_candidates, None)


def embed(model: CTRModel, group: str, ids: Tensor) -> Tensor:
    """Return the embeddings [..., features, d] of a group's columns [..., c]."""
    table = model.embeddings
    embedded = F.embedding(table.rows(group, ids), table.weight)
    if table.plain:
        return embedded
    cells = table.cells[group]
    return pool_cells(embedded, cells.shares(ids), cells.lengths)
