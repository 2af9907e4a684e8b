"""Serving a trained model: encode a user's history once, then score any number of candidates.

Not here: measuring how fast that is (`scaling.serving`).
"""

from models.scoring.compiled_scoring import compile_scoring
from models.scoring.request import Candidates, History
from models.scoring.scorer import Scorer

__all__ = ["Candidates", "History", "Scorer", "compile_scoring"]
