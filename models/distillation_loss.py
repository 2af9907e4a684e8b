"""Online distillation (SUAN paper): the term by which a student follows its teacher, and what each of them reads."""

from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional as F

from models.suan import Batch

__all__ = ["distillation_loss", "latest_behaviours"]


def distillation_loss(
    student: Tensor, teacher: Tensor, *, weight: float, temperature: float
) -> Tensor:
    """Return lambda t^2 BCE(sigmoid(z_s / t), sigmoid(z_t / t)), summed over the logits.

    No gradient reaches the teacher. t^2 keeps the size of the student's as t grows.
    """
    target = torch.sigmoid(teacher.detach() / temperature)
    loss = F.binary_cross_entropy_with_logits(student / temperature, target, reduction="sum")
    return weight * temperature**2 * loss


def latest_behaviours(batch: Batch, max_len: int) -> Batch:
    """Return the batch as a model reads it whose history ends after `max_len` behaviours.

    A batch that was gathered for a longer history is then what it would have been for this one. Stretches
    (`batch.ends`) are refused: their windows begin elsewhere.

    Raises:
        ValueError: the batch holds stretches.
    """
    surplus = batch.behaviours.shape[1] - max_len
    if surplus <= 0:
        return batch
    if batch.ends is not None:
        raise ValueError("the history of a stretch cannot be cut")
    return replace(
        batch,
        behaviours=batch.behaviours[:, surplus:],
        times=batch.times[:, surplus:],
        hours=batch.hours[:, surplus:],
        lengths=batch.lengths.clamp(max=max_len),
    )
