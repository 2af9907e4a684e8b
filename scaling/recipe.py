"""Optimiser settings as a rule of the data size; docs/recipe.md has the scans behind the numbers."""

import math
from dataclasses import dataclass

__all__ = [
    "BETAS",
    "COOLDOWN_TO",
    "EMBEDDING_RATE",
    "GRADIENT_CLIP",
    "Recipe",
    "rate_factor",
    "recipe",
]

BETAS = (0.9, 0.98)
GRADIENT_CLIP = 5.0
# The embeddings' learning rate as a multiple of the dense one; 1 costs 6 to 14 % of the excess loss.
EMBEDDING_RATE = 4.0
COOLDOWN_TO = 0.02
_WARMUP_STEPS = 100


@dataclass(frozen=True)
class Recipe:
    """Batch size in impressions and peak learning rate of the dense parameters."""

    batch_size: int
    learning_rate: float


def recipe(n_samples: int) -> Recipe:
    """Return about 512 steps (256 for the smallest sizes), and a rate that grows as sqrt(batch)."""
    batch_size = 2 ** round(math.log2(max(1.0, n_samples / 512)))
    batch_size = min(max(batch_size, 16), 256)
    return Recipe(batch_size, 2e-3 * math.sqrt(batch_size / 64))


def rate_factor(step: int, n_steps: int, schedule: str) -> float:
    """Return the learning rate of `step` as a fraction of the peak.

    Linear warm-up over a tenth of the run (100 steps at most); `decay` then cools down linearly over
    the second half, `constant` stays.
    """
    warmup = min(_WARMUP_STEPS, max(1, n_steps // 10))
    factor = min(1.0, (step + 1) / warmup)
    half = n_steps / 2
    if schedule == "decay" and step > half:
        factor *= 1 - (1 - COOLDOWN_TO) * (step - half) / (n_steps - half)
    return factor
