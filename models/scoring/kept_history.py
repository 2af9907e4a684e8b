"""A user whose history is read again by each request, in one pass with all its candidates: encoders other than SUAN."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from models.ctr_model import Batch, CTRModel

__all__ = ["KeptHistory", "keep_history", "score_together"]


@dataclass(frozen=True)
class KeptHistory:
    """A user's history as ids, good for every request to its model until the history or the profile changes.

    Attributes:
        behaviours: columns [1, L, c] (see `models.ctr_model.Batch`), oldest first; one row of padding for a user without a history.
        seconds, hours: of the behaviours, int64 [1, L].
        length: valid behaviours, int64 [1].
        profile: columns [1, c].
        model: `models.scoring.user_state.fingerprint` of the model; no other can read it.
    """

    behaviours: Tensor
    seconds: Tensor
    hours: Tensor
    length: Tensor
    profile: Tensor
    model: str

    @property
    def n_bytes(self) -> int:
        """Memory that this state takes."""
        parts = (self.behaviours, self.seconds, self.hours, self.length, self.profile)
        return sum(part.numel() * part.element_size() for part in parts)


def keep_history(
    behaviours: Tensor, seconds: Tensor, hours: Tensor, profile: Tensor, name: str
) -> KeptHistory:
    """Keep a history: columns [L, c], seconds and hours of the day plus one [L], columns of the profile [c]."""
    length = torch.tensor([len(seconds)], device=seconds.device)
    if len(seconds) == 0:
        behaviours, seconds, hours = (
            F.pad(behaviours, (0, 0, 1, 0)),
            F.pad(seconds, (1, 0)),
            F.pad(hours, (1, 0)),
        )
    return KeptHistory(behaviours[None], seconds[None], hours[None], length, profile[None], name)


def score_together(
    model: CTRModel,
    state: KeptHistory,
    request: tuple[Tensor, Tensor],
    ids: tuple[Tensor, Tensor],
    numeric: Tensor,
) -> Tensor:
    """Return the logits of M candidates, [M]; see `models.scoring.user_state.score_candidates` for the arguments."""
    (time, hour), (candidate, context) = request, ids
    n_candidates = len(candidate)
    batch = Batch(
        behaviours=state.behaviours,
        times=torch.cat([state.seconds, time.expand(1, n_candidates)], 1),
        hours=torch.cat([state.hours, hour.expand(1, n_candidates)], 1),
        lengths=state.length,
        candidate=candidate[None],
        context=context[None],
        profile=state.profile,
        numeric=numeric[None],
        label=numeric.new_zeros(1, n_candidates),
    )
    logits: Tensor = model(batch)[0]
    return logits
