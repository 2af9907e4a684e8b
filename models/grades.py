"""The ladder of SUAN grades: one aligned table; a grade is model size and history length together.

Free of torch, so that plans and tables cost nothing. Sizes that follow from a row (parameters,
FLOPs) are computed in `models.accounting`, never typed in here.
"""

from dataclasses import dataclass

__all__ = ["GRADES", "Grade"]


@dataclass(frozen=True)
class Grade:
    """A row of the ladder.

    Attributes:
        n_layers: unified attention blocks.
        n_heads: attention heads; divides `d`, so that it divides the token width for any schema.
        d: embedding width per feature; the token width is D = d x (behaviour features).
        max_len: L, the latest behaviours that the model reads.
    """

    n_layers: int
    n_heads: int
    d: int
    max_len: int

    def __post_init__(self) -> None:
        for name in ("n_layers", "n_heads", "d", "max_len"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, expected at least 1")
        if self.d % self.n_heads:
            raise ValueError(f"n_heads is {self.n_heads}, expected a divisor of d = {self.d}")


# The rule: parameters grow 2 to 3 times a step. Width comes before depth, which the small data sizes of
# the low grades do not reward: one block up to SUAN-3, then one more every other grade; heads are added
# so that one stays 24 to 32 wide; L grows by about 1.6 with the width (SUAN paper: "grade" is size
# together with sequence length, up to L = 1000).
GRADES: dict[str, Grade] = {
    #                 layers heads   d     L
    "SUAN-0": Grade(       1,    1,  2,    8),
    "SUAN-1": Grade(       1,    1,  3,   16),
    "SUAN-2": Grade(       1,    1,  5,   32),
    "SUAN-3": Grade(       1,    2,  8,   50),
    "SUAN-4": Grade(       2,    2, 12,   80),
    "SUAN-5": Grade(       3,    2, 16,  128),
    "SUAN-6": Grade(       3,    3, 24,  200),
    "SUAN-7": Grade(       4,    4, 32,  320),
    "SUAN-8": Grade(       4,    6, 48,  500),
    "SUAN-9": Grade(       6,    8, 64, 1000),
}  # fmt: skip
