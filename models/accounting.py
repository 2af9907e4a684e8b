"""Parameters and FLOPs of a SUAN, computed from its sizes without torch, so that planning is fast.

The whole model is counted as the paper describes it. The code computes less (only the last token of the
last block is read), but FLOPs as an axis of a law must not depend on such savings.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from models.grades import Grade
from models.input_schema import CategoricalFeature, InputSchema
from models.model_options import N_TIME_BUCKETS, SuanOptions

__all__ = ["TOKENS_ON_GPU", "MemoryUse", "ModelSize", "fitted", "model_size", "pooling_flops"]


# A GPU processes whole batches; the limit is its memory.
TOKENS_ON_GPU = 2**19
# Of the free memory of a GPU, what activations may take; the rest is for gradients, temporary results and the allocator.
_ACTIVATION_SHARE = 0.5
# Smaller parts leave a GPU idle.
_FEWEST_IN_PART = 32
# The input of a block as a share of all that it keeps, at most.
_INPUT_SHARE = 0.05
# Of a device's memory, what a feature table with its moments may take before several ranks divide it.
_TABLE_SHARE = 0.5


@dataclass(frozen=True)
class ModelSize:
    """What a model costs.

    Attributes:
        n_params: non-embedding parameters (the relative-bias tables included).
        n_embedding_params: feature, hour and position tables.
        flops_per_sample: forward FLOPs for one impression with a full history, two per multiply-add
            of a matrix product or of the pooling of cells; training takes three times as many.
        activation_bytes: memory saved for the backward pass of one impression with a full history, in
            float32 and for the CPU path; index tensors and the head are not counted.
    """

    n_params: int
    n_embedding_params: int
    flops_per_sample: int
    activation_bytes: int

    def training_flops(self, n_samples: int) -> int:
        """FLOPs of one pass over `n_samples` impressions: forward, and twice that backward."""
        return 3 * self.flops_per_sample * n_samples

    @property
    def table_bytes(self) -> int:
        """Values and two moments of the tables' rows, in float32."""
        return 12 * self.n_embedding_params

    def is_sharded(self, device_bytes: float) -> bool:
        """Whether several ranks with so much memory each divide the feature table: it takes over half, or all does not fit."""
        return self.table_bytes > _TABLE_SHARE * device_bytes or self.bytes_on(1) > device_bytes

    def bytes_on(self, n_ranks: int) -> float:
        """Parameters, gradients and moments on each of `n_ranks` devices that divide the tables, without activations."""
        return self.table_bytes / n_ranks + 16 * self.n_params


@dataclass(frozen=True)
class MemoryUse:
    """How a batch is trained: in parts of at most `tokens`, and whether blocks are computed again in the backward pass."""

    tokens: int
    recomputes: bool = False

    def n_parts(self, n_passes: int, max_len: int) -> int:
        """Parts of a step of so many passes with full histories."""
        return -(-n_passes // max(1, self.tokens // (max_len + 1)))


def fitted(
    free_bytes: float,
    activation_bytes: int,
    max_len: int,
    n_layers: int,
    *,
    can_recompute: bool = True,
) -> MemoryUse:
    """Return the largest parts that `free_bytes` hold; with blocks computed again if the parts would be too small otherwise.

    Args:
        free_bytes: after the parameters and their moments.
        activation_bytes: kept for one impression with a full history.
        max_len: its length.
        n_layers: blocks of the model.
        can_recompute: whether its blocks can be computed again.
    """
    room, width = _ACTIVATION_SHARE * free_bytes, max_len + 1
    n_kept = int(room / activation_bytes)
    if n_kept >= _FEWEST_IN_PART or n_layers == 1 or not can_recompute:
        return MemoryUse(min(TOKENS_ON_GPU, max(1, n_kept) * width))
    # one block's activations at a time, and the input of each block
    per_block = activation_bytes / n_layers + activation_bytes * _INPUT_SHARE
    return MemoryUse(min(TOKENS_ON_GPU, max(1, int(room / per_block)) * width), recomputes=True)


def model_size(grade: Grade, options: SuanOptions, schema: InputSchema) -> ModelSize:
    """Count parameters and FLOPs; tests hold both against the module and torch's FLOP counter."""
    options = options.on(schema)
    d, width = grade.d, grade.d * len(schema.behaviour)
    n_profile = len(schema.profile)
    n_tokens = grade.max_len + int(options.target_aware)
    inner = max(1, width // 4)
    norm = width * (1 if options.norm == "rms" else 2)

    # like the paper, count all tokens as read by each token, including future ones
    pattern = options.pattern
    n_keys = n_tokens if pattern is None else 1 + len(pattern.distances(n_tokens))
    params = norm + 4 * width**2  # attention
    flops = 8 * n_tokens * width**2 + 4 * n_tokens * n_keys * width
    if options.fusion != "none":
        params += norm + 2 * width**2 + 2 * d * width
        flops += 4 * n_tokens * width**2 + 4 * n_profile * d * width
        flops += 4 * n_tokens * n_profile * width
    if options.fusion == "dual":
        params += 3 * width * inner
        n_gates = n_tokens if options.pooling == "running" else 1
        flops += 6 * width * inner * n_gates
    n_matrices = 3 if options.ffn == "swiglu" else 2
    params += norm + n_matrices * 3 * width**2 + (n_matrices - 1) * 3 * width + width
    flops += n_matrices * 6 * n_tokens * width**2
    params *= grade.n_layers
    flops *= grade.n_layers

    params += d * width  # time of day
    flops += 2 * n_tokens * d * width
    params += grade.max_len + 1 if options.bias in ("position", "both") else 0
    params += N_TIME_BUCKETS + 1 if options.bias in ("time", "both") else 0
    n_flat = n_profile + len(schema.candidate) + len(schema.context)
    widths = [width + n_flat * d + len(schema.numeric), 16 * d, 8 * d, 1]
    for n_in, n_out in pairwise(widths):
        params += (n_in + 1) * n_out
        flops += 2 * n_in * n_out
    params += 2 * len(schema.numeric)
    flops += pooling_flops(schema, d, n_tokens, 1)

    n_rows = 1 + sum(size - 1 for size in schema.vocabularies.values())
    n_embedding = n_rows * d + 25 * d + (grade.max_len + 1) * width
    return ModelSize(params, n_embedding, flops, 4 * _saved_floats(grade, options, schema))


def pooling_flops(schema: InputSchema, d: int, n_tokens: int, n_candidates: int) -> int:
    """Return the forward FLOPs of one pass that make one embedding of those of each cell's ids.

    A product and a sum for each id that a cell may hold; the user's features are pooled once, and a candidate's in its
    token once more.
    """

    def ids(features: Sequence[CategoricalFeature]) -> int:
        return sum(f.max_values for f in features if f.max_values > 1 or f.weighted)

    n = n_tokens * ids(schema.behaviour) + ids(schema.profile)
    n += n_candidates * (ids(schema.candidate) + ids(schema.context))
    return 2 * n * d


def _saved_floats(grade: Grade, options: SuanOptions, schema: InputSchema) -> int:
    """Number of floats that the blocks save for the backward pass of one impression."""
    width = grade.d * len(schema.behaviour)
    n_tokens = grade.max_len + int(options.target_aware)
    n_features = len(schema.profile) * grade.n_heads
    if options.pattern is None:
        # tiles of 64 queries leave out the future keys
        n_keys = n_tokens if options.pooling == "all" else (n_tokens + min(n_tokens, 64)) / 2
    else:
        n_keys = 1 + len(options.pattern.distances(n_tokens))
    # a norm keeps its input, and what it gives is the input of the branch: twice the width
    attention = 6 * width + grade.n_heads * n_keys
    fusion = 0 if options.fusion == "none" else 2 * width + n_features
    ffn = width * (11 if options.ffn == "swiglu" else 5)
    inner, last = attention + fusion + ffn, attention + fusion
    if options.fusion != "dual":  # of the last block one query is enough
        last = 4 * width
    elif options.pooling == "running":  # each token's mean, gate and C
        inner, last = inner + 3.25 * width, last + width
    total = n_tokens * (inner * (grade.n_layers - 1) + last)
    if options.bias in ("time", "both"):
        total += n_tokens * n_keys  # buckets
    if options.fusion != "none":
        total += 2 * n_features * width * grade.n_layers  # keys and values of the profile
    return round(total)
