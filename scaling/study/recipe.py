"""The rule that sets batch size, learning rate and warm-up from data size and width (see docs/recipe.md)."""

import math
from dataclasses import dataclass

from scaling.study.batch_growth import SMALLEST_BATCH

__all__ = [
    "BETAS",
    "COOLDOWN_TO",
    "EMBEDDING_RATE",
    "GRADIENT_CLIP",
    "GROWING_WARMUP",
    "TOKENS_PER_PART",
    "Recipe",
    "batch_factor",
    "rate_factor",
    "recipe_for",
    "warmup_steps",
]


BETAS = (0.9, 0.98)
GRADIENT_CLIP = 5.0
# Tokens that a CPU core processes together: more would not fit its caches, fewer would be mostly overhead.
TOKENS_PER_PART = 8192
# The embeddings' learning rate as a multiple of the dense one; 1 costs 6 to 14 % of the excess loss.
EMBEDDING_RATE = 4.0
COOLDOWN_TO = 0.02
_WARMUP_STEPS = 100
GROWING_WARMUP = 25  # steps of 16 impressions: a tenth of an epoch of 4,096
# A rate of 2e-3 at batch 64 is right for this width; narrower models get a multiple of it, at most 8 times.
_REFERENCE_WIDTH = 48
_MAX_NARROWNESS = 8.0


@dataclass(frozen=True)
class Recipe:
    """Batch size in impressions and peak learning rate of the dense parameters."""

    batch_size: int
    learning_rate: float


def recipe_for(n_samples: int, token_width: int) -> Recipe:
    """Return the settings for a data size and a model of token width D = d x (behaviour features).

    The batch size gives about 512 steps (256 for the smallest data sizes). The learning rate is
    proportional to 1 / D, as it should be for Adam and matrices of width D (Yang et al., Tensor Programs V,
    table 3), and to the fourth root of the batch size.
    """
    batch_size = 2 ** round(math.log2(max(1.0, n_samples / 512)))
    batch_size = min(max(batch_size, SMALLEST_BATCH), 256)
    narrowness = min(_REFERENCE_WIDTH / token_width, _MAX_NARROWNESS)
    return Recipe(batch_size, 2e-3 * batch_factor(batch_size, 64) * narrowness)


def batch_factor(batch_size: int, reference: int) -> float:
    """Return the learning rate of a batch size as a multiple of that of `reference`: the fourth root of their ratio."""
    return float((batch_size / reference) ** 0.25)


def warmup_steps(n_steps: int) -> int:
    """Return the number of warm-up steps: a tenth of all steps, at most 100."""
    return min(_WARMUP_STEPS, max(1, n_steps // 10))


def rate_factor(step: int, n_steps: int, warmup: int, schedule: str) -> float:
    """Return the learning rate of `step` as a fraction of the peak rate.

    The rate rises linearly over `warmup` steps. After that, schedule `constant` stays at the peak, and
    `decay` falls linearly to `COOLDOWN_TO` over the second half of the steps.
    """
    factor = min(1.0, (step + 1) / warmup)
    half = n_steps / 2
    if schedule == "decay" and step > half:
        factor *= 1 - (1 - COOLDOWN_TO) * (step - half) / (n_steps - half)
    return factor
