"""Optimiser settings as a rule of data size and width; docs/recipe.md has the scans behind the numbers."""

import math
from dataclasses import dataclass

__all__ = [
    "BETAS",
    "COOLDOWN_TO",
    "EMBEDDING_RATE",
    "GRADIENT_CLIP",
    "TOKENS_PER_PART",
    "Recipe",
    "rate_factor",
    "recipe_for",
    "warmup_steps",
]


BETAS = (0.9, 0.98)
GRADIENT_CLIP = 5.0
# Tokens of a batch that a CPU core works on at once: more fall out of its caches, fewer are all overhead.
TOKENS_PER_PART = 8192
# The embeddings' learning rate as a multiple of the dense one; 1 costs 6 to 14 % of the excess loss.
EMBEDDING_RATE = 4.0
COOLDOWN_TO = 0.02
_WARMUP_STEPS = 100
# 2e-3 at batch 64 is right for this width; the narrowest models get at most so many times it.
_REFERENCE_WIDTH = 48
_MAX_NARROWNESS = 8.0


@dataclass(frozen=True)
class Recipe:
    """Batch size in impressions and peak learning rate of the dense parameters."""

    batch_size: int
    learning_rate: float


def recipe_for(n_samples: int, token_width: int) -> Recipe:
    """Return the settings for a data size and a model of token width D = d x (behaviour features).

    About 512 steps (256 for the smallest sizes); a rate that falls as 1 / D, as Adam's should for
    matrices of width D (Yang et al., Tensor Programs V, table 3), and grows as the batch's fourth root.
    """
    batch_size = 2 ** round(math.log2(max(1.0, n_samples / 512)))
    batch_size = min(max(batch_size, 16), 256)
    narrowness = min(_REFERENCE_WIDTH / token_width, _MAX_NARROWNESS)
    return Recipe(batch_size, 2e-3 * (batch_size / 64) ** 0.25 * narrowness)


def warmup_steps(n_steps: int) -> int:
    """Return the steps of the warm-up: a tenth of the run, 100 at most."""
    return min(_WARMUP_STEPS, max(1, n_steps // 10))


def rate_factor(step: int, n_steps: int, warmup: int, schedule: str) -> float:
    """Return the learning rate of `step` as a fraction of the peak.

    Linear warm-up over `warmup` steps; `decay` then cools down linearly over the second half, `constant`
    stays.
    """
    factor = min(1.0, (step + 1) / warmup)
    half = n_steps / 2
    if schedule == "decay" and step > half:
        factor *= 1 - (1 - COOLDOWN_TO) * (step - half) / (n_steps - half)
    return factor
