"""The log of a pursuit, `<runs>/<study>/pursuit.jsonl`: one line per round, never changed once written."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from scaling.atomic_files import json_values, write_text
from scaling.documents import open_regular, parse_json
from scaling.errors import UserError
from scaling.strict_values import from_document, tolerant

__all__ = ["PURSUIT_LOG", "PursuitRound", "append_round", "read_rounds"]


PURSUIT_LOG = "pursuit.jsonl"


@tolerant
@dataclass(frozen=True)
class PursuitRound:
    """One round of `scaling pursue`: what was seen, what is trained next, and why.

    Attributes:
        number: 1 for the first round.
        time: UTC, ISO 8601.
        kind: `design` trains cells until the law can be fitted, `narrow` those that narrow the interval, `end` none.
        quantity: what is measured, e.g. "alpha".
        goal_width: the width wanted.
        status: of the fit; "no fit" if there are too few cells.
        n_runs: runs in the fit.
        estimate, lower, upper: of the quantity; None if the data do not bound it.
        level: of this interval.
        claims: whether this look was declared, by the round before, as one at which the pursuit may end; only
            then the interval is a claim.
        cells: signatures of the cells to train.
        labels: the same for people.
        expected_width: of the interval at the next look, at that look's level.
        cost: estimated cost of the cells, in `unit`.
        spent: cost of all cells so far, cells in flight included.
        budget: of the whole pursuit.
        unit: core-hours or FLOPs.
        next_claims, next_level: the declaration of the next look.
        is_reached: whether the width is reached.
        reason: for people.
        metric: column that was fitted; "" before the first run, None in rounds of earlier versions.
        next_is_last: whether the next look was declared as the last one; False in rounds of earlier versions.
        n_left: groups of cells that one process trains together and that were not trained yet; None in rounds of
            earlier versions.
    """

    number: int
    time: str
    kind: Literal["design", "narrow", "end"]
    quantity: str
    goal_width: float
    status: str
    n_runs: int
    estimate: float | None
    lower: float | None
    upper: float | None
    level: float
    claims: bool
    cells: tuple[str, ...]
    labels: tuple[str, ...]
    expected_width: float | None
    cost: float
    spent: float
    budget: float
    unit: str
    next_claims: bool
    next_level: float
    is_reached: bool
    reason: str
    metric: str | None = None
    next_is_last: bool = False
    n_left: int | None = None

    @property
    def width(self) -> float | None:
        """Width of the interval; None if a side is open."""
        if self.lower is None or self.upper is None:
            return None
        return self.upper - self.lower


def read_rounds(study_folder: Path) -> list[PursuitRound]:
    """Read the rounds of a study's pursuit, oldest first; empty if there is none.

    Raises:
        UserError: a line is damaged.
    """
    path = study_folder / PURSUIT_LOG
    try:
        with open_regular(path) as file:
            lines = file.read().decode().splitlines()
    except FileNotFoundError:
        return []
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read: {error}") from error
    rounds = []
    for number, line in enumerate(lines, start=1):
        try:
            document = parse_json(line)
        except ValueError as error:
            raise UserError(
                f"{path}: line {number} is damaged: {error}; remove the file to begin a new pursuit, whose "
                "looks count anew"
            ) from error
        rounds.append(from_document(PursuitRound, document, f"{path}: line {number}"))
    return rounds


def append_round(study_folder: Path, before: Sequence[PursuitRound], one: PursuitRound) -> None:
    """Write the rounds `before` and one more, atomically: a killed writer leaves no part of a line.

    Raises:
        StorageError: the file cannot be written.
    """
    text = "".join(
        json.dumps(json_values(asdict(each)), allow_nan=False) + "\n" for each in (*before, one)
    )
    write_text(study_folder / PURSUIT_LOG, text)
