"""Copies runs to a mirror: what is there already stays, so a call can be repeated at any time."""

from collections.abc import Iterable
from dataclasses import dataclass

from scaling.mirrors.run_facts import RunFacts
from scaling.mirrors.trackers import Mirror, Mirrored

__all__ = ["Counts", "mirror_runs"]


@dataclass(frozen=True)
class Counts:
    """Runs by what became of them.

    Attributes:
        new: were not there.
        continued: have got more points, or their final numbers.
        unchanged: were there as they are.
        waiting: are still trained, and the mirror takes finished runs only.
    """

    new: int = 0
    continued: int = 0
    unchanged: int = 0
    waiting: int = 0


def mirror_runs(runs: Iterable[RunFacts], mirror: Mirror) -> Counts:
    """Bring a mirror up to date.

    Raises:
        UserError: the mirror cannot be written.
    """
    new = continued = unchanged = waiting = 0
    for run in runs:
        if not (run.is_finished or mirror.takes_unfinished):
            waiting += 1
            continue
        held = mirror.held(run)
        there = held or Mirrored()
        points = [point for point in run.curve if point.step > there.step]
        if there.is_finished or (held and not points and not run.is_finished):
            unchanged += 1
            continue
        mirror.add(run, points)
        if held is None:
            new += 1
        else:
            continued += 1
    return Counts(new, continued, unchanged, waiting)
