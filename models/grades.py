"""The ladder of SUAN grades: one aligned table; a grade is model size and history length together.

Needs no torch, so that plans and tables are fast. Parameters and FLOPs are computed from a row in
`models.accounting`.
"""

from dataclasses import dataclass

__all__ = ["GRADES", "Grade"]


@dataclass(frozen=True)
class Grade:
    """A row of the ladder.

    Attributes:
        n_layers: unified attention blocks.
        n_heads: attention heads; a divisor of `d`, and so of the token width for any schema.
        d: embedding width per feature; the token width is D = d x (behaviour features).
        max_len: L, how many of the latest behaviours the model reads.
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


# The rule: each grade has 2 to 3 times the parameters of the one before. Width grows before depth, because
# depth does not help at the small data sizes of the low grades: one block up to SUAN-3, then about one more
# every other grade. Heads are added so that each stays 24 to 32 wide. L grows by a factor of about 1.6 per
# grade up to the L = 1000 of the SUAN paper (a grade is model size together with sequence length), then by
# 1.25. From SUAN-10 on nothing was trained here: the rows reach the 10^9 parameters of the literature.
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
    "SUAN-10": Grade(      8,   11,  88, 1300),
    "SUAN-11": Grade(     10,   15, 120, 1600),
    "SUAN-12": Grade(     12,   21, 168, 2000),
    "SUAN-13": Grade(     16,   28, 224, 2600),
    "SUAN-14": Grade(     20,   40, 320, 3300),
    "SUAN-15": Grade(     26,   60, 480, 4200),
}  # fmt: skip
