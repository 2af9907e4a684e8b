"""Parameters and FLOPs of a SUAN, computed from its sizes without torch, so that planning is fast.

The whole model is counted as the paper describes it. The code computes less (only the last token of the
last block is read), but FLOPs as an axis of a law must not depend on such savings.
"""

from dataclasses import dataclass
from itertools import pairwise

from models.grades import Grade
from models.input_schema import InputSchema
from models.model_options import N_TIME_BUCKETS, SuanOptions

__all__ = ["ModelSize", "model_size"]


@dataclass(frozen=True)
class ModelSize:
    """What a model costs.

    Attributes:
        n_params: non-embedding parameters (the relative-bias tables included).
        n_embedding_params: feature, hour and position tables.
        flops_per_sample: forward FLOPs for one impression with a full history, two per multiply-add
            of a matrix product; training takes three times as many.
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

    n_rows = 1 + sum(size - 1 for size in schema.vocabularies.values())
    n_embedding = n_rows * d + 25 * d + (grade.max_len + 1) * width
    return ModelSize(params, n_embedding, flops, 4 * _saved_floats(grade, options, schema))


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
