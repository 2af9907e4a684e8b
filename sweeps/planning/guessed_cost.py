"""The time of a cell without any measurement of its grade: what its steps compute, times the speed of a core.

The constants are a fit to measured steps: `benchmarks/plan_guess.py` compares guess and measurement for widths of
6 to 192, 1 to 4 blocks and histories of 8 to 200 events, packed and not. The guess is within a factor of 2 of each.
"""

import math
from dataclasses import dataclass, replace

from models.grades import Grade
from models.kinds import measured_flops, size_of
from models.model_options import EncoderOptions, ModelOptions
from scaling.store import LogShape, Schema
from scaling.study import TOKENS_PER_PART, DataFacts, RunConfig, batch_phases
from sweeps.planning.machine_speed import MachineSpeed

__all__ = ["GpuSpeed", "evaluation_seconds", "training_seconds"]


# Fitted, in calls: Python and torch per step, per part of a step, and per part and block.
_CALLS_PER_STEP, _CALLS_PER_PART, _CALLS_PER_BLOCK = 4_400, 2_200, 4_300
# Fitted, in exponentials: per table row read, per float saved for the backward pass, per dense parameter.
_EXPS_PER_ROW, _EXPS_PER_FLOAT, _EXPS_PER_PARAMETER = 750, 5.5, 10
# Fitted: products of a model are a little slower than those of 64 x 64 matrices.
_SLOWNESS_OF_PRODUCTS = 1.08
# Fitted: the forward pass alone, as a share of a training step of the same parts.
_EVALUATION_SHARE = 0.37
# The largest group of a part is this much larger than the mean one, and the others are padded.
_CANDIDATE_PADDING = {"none": 1.0, "request": 1.3, "stretch": 1.7}


@dataclass(frozen=True)
class GpuSpeed:
    """An assumption, not measured: a tenth of the rate of a GPU of 2020 for products, and the time of a step."""

    flops_per_second: float = 1.5e13
    step_seconds: float = 0.01


@dataclass(frozen=True)
class _Work:
    """What a pass needs: table rows read, floats saved for the backward pass, forward FLOPs."""

    n_rows: float
    n_floats: float
    n_flops: float


def training_seconds(
    config: RunConfig, data: DataFacts, speed: MachineSpeed | GpuSpeed, n_samples: int
) -> float:
    """Return the seconds of the first `n_samples` impressions of a run that trains one model."""
    phases = batch_phases(n_samples, config.batch_size, config.batch_schedule)
    return sum(
        # a batch holds no more impressions than there are
        p.n_steps * _step_seconds(config, data, speed, min(p.batch_size, p.end - p.first))
        for p in phases
        if p.n_steps
    )


def evaluation_seconds(config: RunConfig, data: DataFacts, speed: MachineSpeed | GpuSpeed) -> float:
    """Return the seconds of scoring the test part, one impression per pass, with one model."""
    n_tokens = data.shape.mean_history(config.grade.max_len) + 1
    work = _work(config.grade, config.model, data.schema, n_tokens, 1.0)
    if isinstance(speed, GpuSpeed):
        return data.n_test * work.n_flops / speed.flops_per_second
    n_parts = data.n_test * n_tokens / TOKENS_PER_PART
    seconds = _parts_seconds(config.grade, work, data.n_test, n_parts, speed)
    return _EVALUATION_SHARE * seconds


def _step_seconds(
    config: RunConfig, data: DataFacts, speed: MachineSpeed | GpuSpeed, batch_size: int
) -> float:
    shape, max_len = data.shape, config.grade.max_len
    n_samples = _per_pass(config, shape)
    n_passes = max(1.0, batch_size / n_samples)
    n_candidates = _CANDIDATE_PADDING[config.packing] * n_samples
    n_parts, n_tokens = _padded(shape, max_len, n_passes, n_candidates)
    work = _work(config.grade, config.model, data.schema, n_tokens / n_passes, n_candidates)
    if isinstance(speed, GpuSpeed):
        return speed.step_seconds + 3 * n_passes * work.n_flops / speed.flops_per_second
    n_params = size_of(config.grade, config.model, data.schema).n_params
    return (
        _CALLS_PER_STEP * speed.call_seconds
        + _EXPS_PER_PARAMETER * n_params * speed.exp_seconds
        + _parts_seconds(config.grade, work, n_passes, n_parts, speed)
    )


def _per_pass(config: RunConfig, shape: LogShape) -> float:
    """Return the mean number of impressions of a pass."""
    if config.packing == "none":
        return 1.0
    if config.packing == "request":
        return shape.per_request
    return shape.impressions_per_stretch(config.grade.max_len)


def _padded(
    shape: LogShape, max_len: int, n_passes: float, n_candidates: float
) -> tuple[int, float]:
    """Return the number of parts of a batch and its tokens: each part is as wide as its longest history.

    This is how `scaling.batches` splits a batch, with the longest histories first.
    """
    n_parts, n_tokens, left = 0, 0.0, n_passes
    while left > 0:
        # of n histories, the k-th shortest is about the quantile k / (n + 1)
        width = min(max_len, shape.history_at(left / (n_passes + 1))) + n_candidates
        together = min(left, max(1.0, TOKENS_PER_PART // width))
        n_parts, n_tokens, left = n_parts + 1, n_tokens + together * width, left - together
    return n_parts, n_tokens


def _parts_seconds(
    grade: Grade, work: _Work, n_passes: float, n_parts: float, speed: MachineSpeed
) -> float:
    """Return the seconds of `n_passes` forward and backward passes in `n_parts` parts."""
    calls = n_parts * (_CALLS_PER_PART + _CALLS_PER_BLOCK * grade.n_layers)
    exps = _EXPS_PER_ROW * work.n_rows + _EXPS_PER_FLOAT * work.n_floats
    return (
        calls * speed.call_seconds
        + n_passes * exps * speed.exp_seconds
        + n_passes * 3 * work.n_flops * _SLOWNESS_OF_PRODUCTS * speed.flop_seconds
    )


def _work(
    grade: Grade, options: ModelOptions, schema: Schema, n_tokens: float, n_read: float
) -> _Work:
    """Count what the code computes in a pass of `n_tokens`, of which the head reads `n_read`.

    For a SUAN, `models.accounting` counts the whole model, as the paper describes it. In the code, only the tokens that the head
    reads pass through fusion and feed-forward of the last block.
    """
    if isinstance(options, EncoderOptions):
        n_candidates = max(1, round(n_read))
        n_history = min(grade.max_len, max(1, round(n_tokens) - n_candidates))
        flops, n_bytes = measured_flops(grade, options, schema, n_history, n_candidates)
        return _Work(n_tokens * len(schema.behaviour), n_bytes / 4, flops)
    options = options.on(schema)
    d, width = grade.d, grade.d * len(schema.behaviour)
    pattern = options.pattern
    # the future half of the attention is skipped, except within tiles of 64 tokens
    n_keys = (n_tokens + min(n_tokens, 64)) / 2
    if pattern is not None:
        n_keys = 1 + len(pattern.distances(math.ceil(n_tokens)))
    attention = n_tokens * (8 * width**2 + 4 * n_keys * width)
    rest = (3 if options.ffn == "swiglu" else 2) * 6 * width**2
    if options.fusion != "none":
        rest += 4 * width**2 + 4 * len(schema.profile) * width
    n_flops = grade.n_layers * attention + ((grade.n_layers - 1) * n_tokens + n_read) * rest
    n_flat = len(schema.profile) + len(schema.candidate) + len(schema.context)
    n_flops += n_read * 32 * d * (width + n_flat * d + 8 * d + 0.5) + 2 * n_tokens * d * width
    # counted for whole numbers of tokens
    size = size_of(replace(grade, max_len=max(1, round(n_tokens) - 1)), options, schema)
    n_floats = size.activation_bytes / 4 + n_read * (11 * width + 50 * d)
    return _Work(n_tokens * len(schema.behaviour), n_floats, n_flops)
