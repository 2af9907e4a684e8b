"""The interface of a mirror, and the trackers that have one."""

import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Protocol

from scaling.errors import UserError, nearest
from scaling.mirrors.run_facts import RunFacts
from scaling.records import CurvePoint

__all__ = ["TRACKERS", "Mirror", "Mirrored", "Tracker", "open_mirror"]


@dataclass(frozen=True)
class Mirrored:
    """What a mirror holds of a run.

    Attributes:
        step: of the last point of the curve; 0 if there is none.
        is_finished: whether it holds the final numbers, after which nothing follows.
    """

    step: int = 0
    is_finished: bool = False


class Mirror(Protocol):
    """A place that runs are copied to. What it holds is asked of the place itself, so a copy can be repeated.

    Attributes:
        takes_unfinished: whether a run can be added to while it is trained.
    """

    takes_unfinished: bool

    def held(self, run: RunFacts) -> Mirrored | None:
        """Return what is there of a run; None if nothing is."""

    def add(self, run: RunFacts, points: Sequence[CurvePoint]) -> None:
        """Add points of the curve that are not there yet and, of a finished run, the final numbers."""

    def close(self) -> None:
        """End the tracker's processes and connections."""


@dataclass(frozen=True)
class Tracker:
    """A tracker that runs can be mirrored to.

    Attributes:
        module: of this room, with the function `connect(place)`.
        package: that must be installed; the extra has the tracker's name.
        place: where its mirror is by default, under the study's folder.
        takes_address: whether a URI can be given in place of a path.
        command: to look at the mirror; `{place}` stands for its place.
    """

    module: str
    package: str
    place: str
    takes_address: bool
    command: str

    def look(self, place: str) -> str:
        """Return the command to look at the mirror at `place`, as a shell takes it."""
        if self.takes_address and "://" not in place:
            place = f"sqlite:///{place}"
        return self.command.format(place=shlex.quote(place))


TRACKERS = {
    "tensorboard": Tracker(
        "tensorboard_mirror", "tensorboard", "mirrors/tensorboard", False, "tensorboard --logdir {place}"
    ),
    "mlflow": Tracker(
        "mlflow_mirror", "mlflow", "mirrors/mlflow.db", True, "mlflow ui --backend-store-uri {place}"
    ),
    "wandb": Tracker("wandb_mirror", "wandb", "mirrors", False, "wandb sync {place}/wandb/offline-run-*"),
}  # fmt: skip


def open_mirror(name: str, place: str) -> Mirror:
    """Open the mirror of a tracker at `place`: a folder, or for MLflow an SQLite file or a tracking URI.

    Raises:
        UserError: there is no such tracker, it is not installed, or it refuses the place.
    """
    if name not in TRACKERS:
        raise UserError(f"{name}: no such tracker{nearest(name, TRACKERS)}")
    tracker = TRACKERS[name]
    if "://" in place and not tracker.takes_address:
        raise UserError(f"{place}: expected a folder; {name} is mirrored to files")
    connect: Callable[[str], Any] = import_module(f"scaling.mirrors.{tracker.module}").connect
    try:
        mirror: Mirror = connect(place)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] in ("scaling", "models"):
            raise
        raise UserError(
            f"{error.name} is not installed; install the tracker with: "
            f'pip install "ctr-scaling[{name}]"'
        ) from error
    return mirror
