"""SIM (Pi et al., CIKM '20, arXiv 2006.05639): search a long history for the candidate, then attend to what was found.

Search, without gradients: `hard` keeps the latest behaviours with the candidate's category; `soft` keeps the k with the
largest inner product of embeddings (section 3.1). `eta` keeps those whose embeddings have the most hash bits in common with
the candidate's, 64 signs of random projections (ETA: Chen et al., arXiv 2108.04468, section 3.2). `twin` keeps
those that the attention itself scores highest (TWIN: Chang et al., KDD '23, arXiv 2302.02352, section 4). Attention: each head reads softmax(W_b z * W_a e) of the kept, where z is
a behaviour's embedding beside that of the time until the request (equations 5 to 7).

Published: k = 200 of up to 54,000 behaviours; embeddings of 16.

Grade rule: k = 2 sqrt(L), at least 8 and at most L; `n_layers` rounds of attention of `n_heads` heads at width D, each with a
feed-forward network of inner width 2 D, both with a residual and LayerNorm. The paper has one round and no residual.

Departures: the search uses the model's own embeddings, not those of an auxiliary task. No second model for the short
term: the latest behaviours are among those that are searched. Time is in the buckets of SUAN, ln(seconds) / 0.301. Scores
are scaled by 1 / sqrt(E). `eta` takes the later of two behaviours with equally many bits in common. `twin` searches with the
first round, with the sum of its heads' scores, and has no split of features into those of the item and those of the visit.

Shapes: B passes, M candidates, L behaviours, K kept of them, D token width, d embedding width, H heads, E = D / H.
"""

import math
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.attention import MASKED, gap_buckets
from models.encoder import Encoder, EncoderInput, Packing
from models.grades import Grade
from models.input_schema import InputSchema, is_plain
from models.model_options import N_TIME_BUCKETS, OptionError

__all__ = ["SIM", "SIMOptions"]


# K of a grade is at least this.
_FEWEST = 8
_HASH_BITS = 64
_STD = 0.1
_CATEGORY = "category"


@dataclass(frozen=True)
class SIMOptions:
    """Variations of SIM.

    Attributes:
        search: `soft` by the inner product of embeddings, `hard` by `category`, `eta` by hash bits, `twin` by attention.
        category: for `hard`, the feature that a kept behaviour has in common with the candidate.
        k: behaviours to keep at most. Default: the grade's.
    """

    search: Literal["soft", "hard", "eta", "twin"] = "soft"
    category: str = _CATEGORY
    k: int | None = None

    def __post_init__(self) -> None:
        if self.search not in ("soft", "hard", "eta", "twin"):
            expected = "'soft', 'hard', 'eta' or 'twin'"
            raise ValueError(f"search is {self.search!r}, expected {expected}")
        if self.k is not None and self.k < 1:
            raise ValueError(f"k is {self.k}, expected at least 1")
        if self.search != "hard" and self.category != _CATEGORY:
            raise ValueError('category is an option of search = "hard"')


class SIM(Encoder):
    """The candidate after it has read the behaviours that were found for it, [B, M, D]."""

    options_type = SIMOptions
    tables = ("gap",)
    projection: Tensor

    def __init__(self, grade: Grade, options: SIMOptions, schema: InputSchema) -> None:
        super().__init__(grade, options, schema)
        self.n_out = width = grade.d * len(schema.behaviour)
        rule = max(_FEWEST, math.ceil(2 * grade.max_len**0.5))
        self.k = min(options.k or rule, grade.max_len)
        self.slot = _slot(options, schema) if options.search == "hard" else None
        if options.search == "eta":
            self.register_buffer("projection", torch.randn(width, _HASH_BITS))
        self.gap = nn.Parameter(torch.randn(N_TIME_BUCKETS + 1, grade.d) * _STD)
        self.rounds = nn.ModuleList(
            _Round(width, grade.d, grade.n_heads) for _ in range(grade.n_layers)
        )

    @classmethod
    def packing(cls, options: Any) -> tuple[Packing, ...]:
        """Both: each candidate searches for itself, and time is relative."""
        return ("request", "stretch")

    def forward(self, inputs: EncoderInput) -> Tensor:
        """Return [B, M, D]."""
        own = inputs.candidate_BMD
        columns, found = self.search(inputs)
        kept_BMKX = self._behaviours(inputs, columns)
        for attend in self.rounds:
            own = attend(own, kept_BMKX, found)
        return own

    def search(self, inputs: EncoderInput) -> tuple[Tensor, Tensor]:
        """Return the columns of the behaviours kept for each candidate, int64 [B, M, K], and whether each was found."""
        seen = inputs.seen
        with torch.no_grad():
            if self.slot is not None:
                ids = inputs.candidate_ids[..., self.slot].unsqueeze(2)
                seen = seen & (inputs.history_ids[..., self.slot].unsqueeze(1) == ids) & (ids != 0)
            scores = self._scores(inputs).masked_fill(~seen, -math.inf)
            columns = scores.topk(min(self.k, seen.shape[-1]), -1, sorted=False).indices
        return columns, seen.gather(-1, columns)

    def _scores(self, inputs: EncoderInput) -> Tensor:
        """What the search keeps the largest of, [B, M, L]."""
        own, history, search = inputs.candidate_BMD, inputs.history_BLD, self.options.search
        if search == "soft":
            return own @ history.mT
        latest = torch.arange(inputs.n_history, device=own.device, dtype=torch.float32)
        if search == "hard":
            return latest.expand(inputs.seen.shape)
        if search == "eta":
            of_own, of_history = ((x @ self.projection).sign() for x in (own, history))
            # bits in common, in steps of two; the place decides between equals
            return of_own @ of_history.mT + latest / inputs.n_history
        first = self.rounds[0]
        assert isinstance(first, _Round)
        every = torch.arange(inputs.n_history, device=own.device)
        return first.scores(own, self._behaviours(inputs, every.expand(inputs.seen.shape))).sum(2)

    def _behaviours(self, inputs: EncoderInput, columns: Tensor) -> Tensor:
        """The embeddings of some behaviours for each candidate beside those of the time until its request, [B, M, K, X]."""
        n_batch, n_history = inputs.history_BLD.shape[:2]
        first = torch.arange(n_batch, device=columns.device)[:, None, None] * n_history
        rows = (columns + first).flatten()
        kept = inputs.history_BLD.flatten(0, 1).index_select(0, rows)
        times = inputs.times[:, :n_history].flatten().index_select(0, rows).view(columns.shape)
        buckets = gap_buckets(inputs.times[:, n_history:, None] - times).flatten()
        gaps = self.gap.index_select(0, buckets)
        both = torch.cat([kept, gaps], -1)
        return both.view(*columns.shape, both.shape[-1])


class _Round(nn.Module):
    """The candidate reads the kept behaviours."""

    def __init__(self, width: int, d: int, n_heads: int) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.query = nn.Linear(width, width, bias=False)
        self.key_value = nn.Linear(width + d, 2 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)
        self.norm_attention = nn.LayerNorm(width)
        self.up, self.down = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)
        self.norm_ffn = nn.LayerNorm(width)

    def forward(self, own_BMD: Tensor, kept_BMKX: Tensor, found_BMK: Tensor) -> Tensor:
        """Return [B, M, D]."""
        q = self._queries(own_BMD)
        k, v = (
            self.key_value(kept_BMKX).unflatten(-1, (2, self.n_heads, -1)).transpose(2, 4).unbind(3)
        )
        found = found_BMK[:, :, None, None]
        scores = (q @ k.mT * q.shape[-1] ** -0.5).masked_fill(~found, MASKED)
        weights = torch.softmax(scores, -1) * found  # zero if nothing was found
        read = self.out((weights @ v).flatten(2))
        own_BMD = self.norm_attention(own_BMD + read)
        y: Tensor = self.norm_ffn(own_BMD + self.down(F.relu(self.up(own_BMD))))
        return y

    def scores(self, own_BMD: Tensor, kept_BMKX: Tensor) -> Tensor:
        """Return what each head would score the behaviours, without its scale [B, M, H, K]."""
        weight = self.key_value.weight[: own_BMD.shape[-1]]
        k = F.linear(kept_BMKX, weight)
        k = k.view(*k.shape[:3], self.n_heads, len(weight) // self.n_heads).transpose(2, 3)
        return (self._queries(own_BMD) @ k.mT).squeeze(3)

    def _queries(self, own_BMD: Tensor) -> Tensor:
        """Return [B, M, H, 1, E]."""
        q: Tensor = self.query(own_BMD)
        return q.view(*q.shape[:2], self.n_heads, 1, -1)


def _slot(options: SIMOptions, schema: InputSchema) -> int:
    """The slot of a behaviour token that holds the category.

    Raises:
        OptionError: behaviours or candidates have no such feature, or its cells hold several values.
    """
    of_candidates = {feature.name for feature in schema.candidate}
    shared = [f.name for f in schema.behaviour if f.name in of_candidates]
    if options.category not in shared:
        raise OptionError(
            "category",
            f"category is {options.category!r}, expected a feature that behaviours and candidates "
            f"have in common: {', '.join(shared) or 'there is none'}",
        )
    slot = [f.name for f in schema.behaviour].index(options.category)
    if not is_plain(schema.behaviour[slot : slot + 1]):
        raise OptionError(
            "category",
            f"category is {options.category!r}, which holds several values or weights, expected a feature of one id",
        )
    return slot
