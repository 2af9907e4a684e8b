"""The batch size of each step: fixed, or growing with the samples seen so far. Needs no torch."""

from dataclasses import dataclass
from typing import Literal

__all__ = [
    "SMALLEST_BATCH",
    "BatchPhase",
    "BatchSchedule",
    "batch_phases",
    "count_steps",
    "samples_seen",
]


BatchSchedule = Literal["fixed", "growing"]

SMALLEST_BATCH = 16
# A growing batch b doubles when 2 b times this many samples have been seen: each size has about this many steps.
_STEPS_PER_DOUBLING = 256


@dataclass(frozen=True)
class BatchPhase:
    """The steps of one batch size: samples from `first` up to `end`."""

    first: int
    end: int
    batch_size: int

    @property
    def n_steps(self) -> int:
        """Steps of the phase; the last batch of a run may be cut."""
        return -(-(self.end - self.first) // self.batch_size)


def batch_phases(
    n_samples: int, batch_size: int, schedule: BatchSchedule = "fixed"
) -> tuple[BatchPhase, ...]:
    """Return the phases of an epoch of `n_samples`; those of a smaller epoch are the same, cut at its end.

    With `growing`, the batch starts at 16 and doubles up to `batch_size` as samples are seen, in such a way that any
    data size gets about the number of steps that the recipe gives it.
    """
    if schedule == "fixed":
        return (BatchPhase(0, n_samples, batch_size),)
    phases, first, batch = [], 0, min(SMALLEST_BATCH, batch_size)
    while first < n_samples:
        end = n_samples
        if batch < batch_size:
            # whole batches, also if a size that is no power of two ends the growth
            length = 2 * batch * _STEPS_PER_DOUBLING - first
            end = min(n_samples, first + -(-length // batch) * batch)
        phases.append(BatchPhase(first, end, batch))
        first, batch = end, min(2 * batch, batch_size)
    return tuple(phases)


def count_steps(n_samples: int, batch_size: int, schedule: BatchSchedule = "fixed") -> int:
    """Return the steps of an epoch; a packed one may have fewer."""
    return sum(phase.n_steps for phase in batch_phases(n_samples, batch_size, schedule))


def samples_seen(
    step: int, n_samples: int, batch_size: int, schedule: BatchSchedule = "fixed"
) -> int:
    """Return the samples that the first `step` steps of an epoch see."""
    for phase in batch_phases(n_samples, batch_size, schedule):
        if step <= phase.n_steps:
            return min(phase.end, phase.first + step * phase.batch_size)
        step -= phase.n_steps
    return n_samples
