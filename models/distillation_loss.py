"""Online distillation (SUAN paper): the loss term for the student, and the batch as each model reads it."""

from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional as F

from models.ctr_model import Batch

__all__ = ["distillation_loss", "latest_behaviours"]


def distillation_loss(
    student: Tensor,
    teacher: Tensor,
    *,
    weight: float,
    temperature: float,
    counted: Tensor | None = None,
) -> Tensor:
    """Return lambda t^2 BCE(sigmoid(z_s / t), sigmoid(z_t / t)), summed over the logits, each `counted` times; None: once.

    No gradient reaches the teacher. The factor t^2 keeps the student's gradient at the same size as t grows.
    """
    target = torch.sigmoid(teacher.detach() / temperature)
    loss = F.binary_cross_entropy_with_logits(
        student / temperature, target, counted, reduction="sum"
    )
    return weight * temperature**2 * loss


def latest_behaviours(batch: Batch, max_len: int) -> Batch:
    """Return the batch as read by a model whose history length is `max_len`.

    A batch gathered for a longer history becomes the batch that would have been gathered for this length.
    Stretches (`batch.ends`) are refused, because their windows begin elsewhere.

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
