"""The rate law of a study: how its peak learning rates differ from the recipe's, by width and data size. Needs no torch."""

from dataclasses import dataclass

from scaling.strict_values import require_positive

__all__ = ["RateLaw"]


# Adam needs exponents between -1 and 1; anything far beyond is a slip, and its rates overflow.
_LARGEST_EXPONENT = 3.0


@dataclass(frozen=True)
class RateLaw:
    """`[train.rate_law]`: changes the recipe's rate of the dense parameters; `scaling tune` fits it to a scan.

    The rate is `factor` times the recipe's, times `(width / token_width)^width_exponent (D / n_samples)^samples_exponent`,
    for a model of token width d x (behaviour features) and a data size D. Exponents of 0 and a factor of 1 are the
    recipe itself. With `learning_rate` in place of `factor` (as `scaling tune` wrote it at first), the recipe's
    rate has no part in it. Batch size and warm-up stay the recipe's.

    Attributes:
        token_width: width of the reference point.
        n_samples: data size of the reference point, in impressions.
        width_exponent: power of the token width, relative to the reference point.
        samples_exponent: power of the data size, relative to the reference point.
        learning_rate: peak rate of the dense parameters at the reference point. Default: none; see `factor`.
        factor: multiple of the recipe's rate at the reference point. Default: none; then `learning_rate` is given.
    """

    token_width: int
    n_samples: int
    width_exponent: float
    samples_exponent: float
    learning_rate: float | None = None
    factor: float | None = None

    def __post_init__(self) -> None:
        """Check that there is one level, that the reference point is positive and that the exponents are small."""
        require_positive(self, "learning_rate", "factor", "token_width", "n_samples")
        if (self.learning_rate is None) == (self.factor is None):
            raise ValueError("expected either factor (times the recipe's rate) or learning_rate")
        for name in ("width_exponent", "samples_exponent"):
            if not abs(getattr(self, name)) <= _LARGEST_EXPONENT:
                raise ValueError(
                    f"{name} is {getattr(self, name)}, "
                    f"expected a number between -{_LARGEST_EXPONENT:g} and {_LARGEST_EXPONENT:g}"
                )

    def rate(self, token_width: int, n_samples: int, recipe_rate: float) -> float:
        """Return the peak rate of the dense parameters of a model of this token width at this data size.

        Args:
            token_width: of the model.
            n_samples: impressions.
            recipe_rate: the recipe's rate of this model at this data size.
        """
        width = (token_width / self.token_width) ** self.width_exponent
        samples = (n_samples / self.n_samples) ** self.samples_exponent
        level = self.learning_rate if self.factor is None else self.factor * recipe_rate
        return float((level or 0.0) * width * samples)
