"""Serving a trained model: encode a user's history once, then score any number of candidates.

Not here: measuring how fast that is (`scaling.serving`).
"""

from models.scoring.compiled_scoring import compile_scoring
from models.scoring.request import (
    CandidateRows,
    Candidates,
    History,
    UserRows,
    read_candidates,
    read_history,
)
from models.scoring.scorer import Scorer

__all__ = [
    "CandidateRows",
    "Candidates",
    "History",
    "Scorer",
    "UserRows",
    "compile_scoring",
    "read_candidates",
    "read_history",
]
