"""The rule that sets batch size, learning rate and warm-up from data size and width (see docs/recipe.md)."""

import math
from dataclasses import dataclass
from typing import Literal

from scaling.study.batch_growth import SMALLEST_BATCH

__all__ = [
    "BETAS",
    "COOLDOWN_TO",
    "GRADIENT_CLIP",
    "GROWING_WARMUP",
    "RECIPE_1_EMBEDDING",
    "TOKENS_PER_PART",
    "Recipe",
    "RecipeVersion",
    "batch_factor",
    "rate_factor",
    "recipe_for",
    "warmup_steps",
]


BETAS = (0.9, 0.98)
GRADIENT_CLIP = 5.0
# Tokens that a CPU core processes together: more would not fit its caches, fewer would be mostly overhead.
TOKENS_PER_PART = 8192
COOLDOWN_TO = 0.02
_WARMUP_STEPS = 100
GROWING_WARMUP = 25  # steps of 16 impressions: a tenth of an epoch of 4,096
# Peak rates at batch 64 and token width 48.
_DENSE_RATE, _EMBEDDING_RATE = 2e-3, 0.032
_REFERENCE_WIDTH = 48
# Fewer samples than this at the reference width lower the dense rate; the number is in proportion to the dense
# parameters, which grow as the square of the width.
_ENOUGH_SAMPLES = 16_384
_SHORTAGE_EXPONENT = 0.4
# In recipe 1, the dense rate is inversely proportional to the width down to an eighth of the reference, and the rate of
# the feature table is a multiple of the dense one.
_MAX_NARROWNESS = 8.0
RECIPE_1_EMBEDDING = 4.0

RecipeVersion = Literal[1, 2]


@dataclass(frozen=True)
class Recipe:
    """Batch size in impressions, and peak learning rates of the dense parameters and of the feature table.

    `embedding_rate` None: a fixed multiple of the dense rate (`RECIPE_1_EMBEDDING`).
    """

    batch_size: int
    learning_rate: float
    embedding_rate: float | None


def recipe_for(n_samples: int, token_width: int, version: RecipeVersion | None = None) -> Recipe:
    """Return the settings for a data size and a model of token width d x (behaviour features).

    The batch size gives about 512 steps (256 for the smallest data sizes). The dense rate falls with the square root
    of the width, and further if the samples are few for the dense parameters; the rate of the table does not depend on it
    (as for Adam in Yang et al., Tensor Programs V, table 3). Both are proportional to the fourth root of the batch size.
    docs/recipe.md has the measurements, and recipe 1. Without a `version`, the latest recipe holds.
    """
    batch_size = 2 ** round(math.log2(max(1.0, n_samples / 512)))
    batch_size = min(max(batch_size, SMALLEST_BATCH), 256)
    factor = batch_factor(batch_size, 64)
    narrowness = _REFERENCE_WIDTH / token_width
    if version == 1:
        narrowness = min(narrowness, _MAX_NARROWNESS)
        return Recipe(batch_size, _DENSE_RATE * factor * narrowness, None)
    shortage = min(1.0, n_samples * narrowness**2 / _ENOUGH_SAMPLES) ** _SHORTAGE_EXPONENT
    dense_rate = _DENSE_RATE * factor * narrowness**0.5 * shortage
    return Recipe(batch_size, dense_rate, _EMBEDDING_RATE * factor)


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
