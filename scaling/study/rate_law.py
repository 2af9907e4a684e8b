"""The rate law of a study: the peak learning rate as a power of token width and data size. Needs no torch."""

from dataclasses import dataclass

from scaling.strict_values import require_positive

__all__ = ["RateLaw"]


# Adam needs exponents between -1 and 1; anything far beyond is a slip, and its rates overflow.
_LARGEST_EXPONENT = 3.0


@dataclass(frozen=True)
class RateLaw:
    """`[train.rate_law]`: takes the place of the recipe's rate; `scaling tune` fits it to a scan.

    The rate is `learning_rate (D / token_width)^width_exponent (n / n_samples)^samples_exponent` for a model of token
    width D = d x (behaviour features) and a data size n. Batch size and warm-up stay the recipe's.

    Attributes:
        learning_rate: peak rate of the dense parameters at the reference point.
        token_width: D of the reference point.
        n_samples: data size of the reference point, in impressions.
    """

    learning_rate: float
    token_width: int
    n_samples: int
    width_exponent: float
    samples_exponent: float

    def __post_init__(self) -> None:
        """Check that the reference point is positive and that the exponents are small."""
        require_positive(self, "learning_rate", "token_width", "n_samples")
        for name in ("width_exponent", "samples_exponent"):
            if not abs(getattr(self, name)) <= _LARGEST_EXPONENT:
                raise ValueError(
                    f"{name} is {getattr(self, name)}, "
                    f"expected a number between -{_LARGEST_EXPONENT:g} and {_LARGEST_EXPONENT:g}"
                )

    def rate(self, token_width: int, n_samples: int) -> float:
        """Return the peak rate of the dense parameters of a model of this token width at this data size."""
        width = (token_width / self.token_width) ** self.width_exponent
        samples = (n_samples / self.n_samples) ** self.samples_exponent
        return float(self.learning_rate * width * samples)
