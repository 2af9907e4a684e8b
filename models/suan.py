"""SUAN (Lai et al., RecSys '25, arXiv 2508.15326): unified attention blocks over a target-aware sequence.

Shapes: B batch, L behaviours, N tokens (L + 1), D token width (n1 d), P profile features (n2).
docs/suan.md maps each equation of the paper, and the released weights, onto these modules.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.attention import Bias, Layout, RelativeBias, RunningMean, SelfAttention, SparseBias
from models.embeddings import FeatureEmbeddings
from models.fusion import AdaptiveFusion
from models.grades import Grade
from models.input_schema import InputSchema
from models.layers import FeedForward, ReluFeedForward, build_norm, last_tokens
from models.model_options import SuanOptions

__all__ = ["SUAN", "Batch", "UnifiedAttentionBlock", "build_suan"]


# Standard deviation of the initial embeddings; see docs/recipe.md.
EMBEDDING_STD = 0.1


@dataclass(frozen=True)
class Batch:
    """Inputs of B passes; behaviours are oldest first and padded on the left.

    A pass scores one candidate, and the M dimension is absent; or it scores M candidates that share a
    history (packed): those of one request, or with `ends` those of a stretch of the user's log.

    Attributes:
        behaviours: ids [B, L, n1], int64, 0 where padded.
        times: unix seconds of behaviours and, last, of the requests, int64 [B, L + M].
        hours: hour of the day plus one (local time) of the same, int64 [B, L + M]; 0 where padded.
        lengths: valid behaviours [B], int64.
        candidate: ids [B, M, nc]. context: ids [B, M, nx]. profile: ids [B, n2].
        numeric: [B, M, nf] float32.
        label: [B, M] float32.
        present: [B, M] bool, False where a packed pass has fewer candidates; None: no candidate is missing.
        ends: [B, M] columns of the history before each candidate's request; None: all of them.
    """

    behaviours: Tensor
    times: Tensor
    hours: Tensor
    lengths: Tensor
    candidate: Tensor
    context: Tensor
    profile: Tensor
    numeric: Tensor
    label: Tensor
    present: Tensor | None = None
    ends: Tensor | None = None


class UnifiedAttentionBlock(nn.Module):
    """Self-attention, adaptive fusion with the profile, feed-forward: one UAB."""

    def __init__(self, width: int, d: int, n_heads: int, options: SuanOptions) -> None:
        super().__init__()
        self.options = options
        self.norm_attention = build_norm(options.norm, width)
        self.attention = SelfAttention(width, n_heads)
        self.norm_fusion = build_norm(options.norm, width) if options.fusion != "none" else None
        self.fusion = (
            AdaptiveFusion(width, d, n_heads, options.fusion) if options.fusion != "none" else None
        )
        self.norm_ffn = build_norm(options.norm, width)
        self.ffn = (FeedForward if options.ffn == "swiglu" else ReluFeedForward)(width)

    def forward(
        self,
        x_BND: Tensor,
        profile_BPd: Tensor,
        bias: Bias | SparseBias,
        pool_BN: Tensor | RunningMean | None,
        *,
        n_out: int,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Return the last `n_out` tokens, [B, n_out, D]; nothing reads the other tokens of the last block.

        The alignment mean still needs the attention output of every token, so only the steps after
        it are shortened. Without a mean (fusion `sum` or `none`) `n_out` queries are enough.
        """
        n_attended = x_BND.shape[1] if self.options.fusion == "dual" else n_out
        x_BND = self.residual(
            self.norm_attention,
            partial(self.attention, bias=bias, n_queries=n_attended),
            x_BND,
            n_attended,
            generator,
        )
        if self.fusion is not None and self.norm_fusion is not None:
            fuse = partial(self.fusion, profile_BPd=profile_BPd, pool_BN=pool_BN, n_out=n_out)
            x_BND = self.residual(self.norm_fusion, fuse, x_BND, n_out, generator)
        return self.residual(self.norm_ffn, self.ffn, x_BND, x_BND.shape[1], generator)

    def residual(
        self,
        norm: nn.Module,
        branch: Callable[..., Tensor],
        x_BND: Tensor,
        n_out: int,
        generator: torch.Generator | None,
    ) -> Tensor:
        """Combine a branch, its norm and the residual stream as `placement` says; return the last `n_out` tokens."""
        place, rate = self.options.placement, self.options.dropout
        normed = x_BND if place == "post" else norm(x_BND)
        stream = normed if place == "released" else x_BND
        if self.training and rate > 0:
            y_BND = branch(normed)
            keep = torch.rand(y_BND.shape, generator=generator, device=y_BND.device) >= rate
            y_BND = last_tokens(stream, n_out) + y_BND * keep / (1 - rate)
        else:
            y_BND = branch(normed, stream_BND=stream)
        return norm(y_BND) if place == "post" else y_BND


class SUAN(nn.Module):
    """The whole model: embeddings, blocks and the head's network to one logit.

    Attributes:
        dropout_generator: draws the dropout masks; None uses torch's global generator.
    """

    def __init__(self, grade: Grade, options: SuanOptions, schema: InputSchema) -> None:
        super().__init__()
        options, d, width = options.on(schema), grade.d, grade.d * len(schema.behaviour)
        self.grade, self.options = grade, options
        self.dropout_generator: torch.Generator | None = None
        self.embeddings = FeatureEmbeddings(schema, d, EMBEDDING_STD)
        self.position = nn.Parameter(torch.randn(grade.max_len + 1, width) * 0.02)
        self.hour = nn.Parameter(torch.randn(25, d) * EMBEDDING_STD)
        self.hour_to_token = nn.Linear(d, width, bias=False)
        names = [feature.name for feature in schema.candidate]
        # index of the candidate feature for each slot of the token; -1: the candidate has no such feature
        self._slots = [names.index(f.name) if f.name in names else -1 for f in schema.behaviour]
        self.bias = RelativeBias(
            grade.max_len,
            position=options.bias in ("position", "both"),
            time=options.bias in ("time", "both"),
        )
        self.blocks = nn.ModuleList(
            UnifiedAttentionBlock(width, d, grade.n_heads, options) for _ in range(grade.n_layers)
        )
        n_flat = len(schema.profile) + len(schema.candidate) + len(schema.context)
        self.normalize_numeric = nn.BatchNorm1d(len(schema.numeric)) if schema.numeric else None
        self.head = nn.Sequential(
            nn.Linear(width + n_flat * d + len(schema.numeric), 16 * d),
            nn.SiLU(),
            nn.Linear(16 * d, 8 * d),
            nn.SiLU(),
            nn.Linear(8 * d, 1),
        )

    def forward(self, batch: Batch) -> Tensor:
        """Return the logits, of the shape of `batch.label`.

        Raises:
            ValueError: a packed batch for options under which packing is not exact.
        """
        if self.options.fusion == "dual" and self.options.pooling == "all":
            batch = _pad_history(batch, self.grade.max_len)
        if batch.candidate.dim() == 2:
            one = {"candidate", "context", "numeric"}
            single = replace(batch, **{name: getattr(batch, name).unsqueeze(1) for name in one})
            return self._score(single).squeeze(-1)
        self._check_packed(batch)
        return self._score(batch)

    def _score(self, batch: Batch) -> Tensor:
        """Return the logits [B, M]."""
        n_batch, n_candidates = batch.candidate.shape[:2]
        rows = self.embeddings.rows
        candidate, profile = rows("candidate", batch.candidate), rows("profile", batch.profile)
        tokens = rows("behaviour", batch.behaviours)
        if self.options.target_aware:
            tokens = torch.cat([tokens, self.token_rows(candidate)], 1)
        n_tokens = tokens.shape[1]
        flat = [
            part.flatten(1) for part in (tokens, profile, candidate, rows("context", batch.context))
        ]
        embedded = self.embeddings(torch.cat(flat, 1)).split([part.shape[1] for part in flat], 1)
        x_BND = embedded[0].view(n_batch, n_tokens, -1)

        read_BMD = self._encode(x_BND, embedded[1], batch)
        own = [part.reshape(n_batch, n_candidates, -1) for part in embedded[2:]]
        return self.predict(read_BMD, embedded[1], own, batch.numeric)

    def token_rows(self, candidate_rows: Tensor) -> Tensor:
        """Arrange the table rows of candidates [B, M, nc] in the slots of a token, [B, M, n1]."""
        zero = torch.zeros_like(candidate_rows[..., 0])
        slots = [candidate_rows[..., slot] if slot >= 0 else zero for slot in self._slots]
        return torch.stack(slots, -1)

    def place_tokens(self, x_BND: Tensor, positions: Tensor, hours_BN: Tensor) -> Tensor:
        """Add position [N] or [B, N] and hour of the day to tokens."""
        hour_table = self.hour_to_token(self.hour)
        hour_BND = hour_table.index_select(0, hours_BN.reshape(-1)).view(*hours_BN.shape, -1)
        position = self.position.index_select(0, positions.reshape(-1))
        placed: Tensor = x_BND + position.view(*positions.shape, -1) + hour_BND
        return placed

    def predict(
        self, read_BMD: Tensor, profile_BPd: Tensor, own: list[Tensor], numeric: Tensor
    ) -> Tensor:
        """Return the logits [B, M] from the tokens that the head reads.

        Args:
            read_BMD: the candidates' tokens after the last block.
            profile_BPd: the user's embeddings.
            own: the candidates' and the contexts' embeddings [B, M, features d].
            numeric: [B, M, nf].
        """
        shared = profile_BPd.flatten(1).unsqueeze(1).expand(-1, read_BMD.shape[1], -1)
        inputs = [read_BMD, shared, *own]
        if self.normalize_numeric is not None:
            inputs.append(self.normalize_numeric(numeric.flatten(0, 1)).view_as(numeric))
        logits: Tensor = self.head(torch.cat(inputs, -1)).squeeze(-1)
        return logits

    def _encode(self, x_BND: Tensor, profile_BPd: Tensor, batch: Batch) -> Tensor:
        """Return the candidates' tokens after the last block, or the last behaviour's, [B, M, D]."""
        n_batch, n_tokens, _ = x_BND.shape
        n_history = batch.behaviours.shape[1]
        layout = Layout(
            batch.lengths, n_history, n_tokens - n_history, batch.ends, self.options.pattern
        )
        times, hours = batch.times[:, :n_tokens], batch.hours[:, :n_tokens]
        positions = layout.positions(self.grade.max_len, self.options.positions)
        x_BND = self.place_tokens(x_BND, positions, hours)
        skip_future = self.options.pooling != "all"
        bias = self.bias(times, layout, x_BND.dtype, skip_future=skip_future)
        pool_BN = None
        if self.options.fusion == "dual":
            pool_BN = layout.pool(self.options.pooling, x_BND.dtype)
        n_read = max(1, layout.n_candidates)
        for block in self.blocks:
            x_BND = block(
                x_BND,
                profile_BPd,
                bias,
                pool_BN,
                n_out=n_read if block is self.blocks[-1] else n_tokens,
                generator=self.dropout_generator,
            )
        read_BMD = x_BND[:, -n_read:]
        # without a history the last token is padding, which says nothing
        if layout.n_candidates == 0:
            read_BMD = read_BMD * (batch.lengths > 0)[:, None, None]
        return read_BMD.expand(n_batch, batch.candidate.shape[1], -1)

    def _check_packed(self, batch: Batch) -> None:
        options = self.options
        if options.fusion == "dual" and options.pooling == "all":
            raise ValueError('packed candidates need pooling = "behaviours" or "running"')
        if batch.ends is None:
            return
        exact = options.fusion != "dual" or options.pooling == "running"
        if not (exact and options.positions == "start" and options.target_aware):
            raise ValueError(
                'a stretch of several requests needs pooling = "running", positions = "start" and '
                "target_aware = true"
            )


def _pad_history(batch: Batch, max_len: int) -> Batch:
    """Pad the history to L, so that a mean over padding does not depend on the batch's longest history."""
    missing = max_len - batch.behaviours.shape[1]
    return replace(
        batch,
        behaviours=F.pad(batch.behaviours, (0, 0, missing, 0)),
        times=F.pad(batch.times, (missing, 0)),
        hours=F.pad(batch.hours, (missing, 0)),
    )


def build_suan(
    grade: Grade, options: SuanOptions, schema: InputSchema, *, base_rate: float, seed: int
) -> SUAN:
    """Build a SUAN with its own seed; its first predictions lie close to the base rate.

    The last layer starts small with the base rate's log-odds as its bias, so that the first steps
    are not spent on finding the mean.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = SUAN(grade, options, schema)
        final = model.head[-1]
        assert isinstance(final, nn.Linear)
        with torch.no_grad():
            final.weight *= 0.1
            final.bias.fill_(torch.logit(torch.tensor(base_rate, dtype=torch.float64)).item())
    return model
