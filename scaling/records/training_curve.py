"""The training curve of a run: the lines of its `metrics.jsonl`."""

from dataclasses import dataclass
from pathlib import Path

from pydantic import FiniteFloat

from scaling.documents import open_regular, parse_json
from scaling.errors import UserError
from scaling.records.digests import check_file
from scaling.records.record import CURVE_FILE
from scaling.strict_values import from_document, tolerant

__all__ = ["CurvePoint", "read_curve"]


@tolerant
@dataclass(frozen=True)
class CurvePoint:
    """How far a training was after a step.

    Attributes:
        step: finished optimiser steps.
        n_steps: all steps of the run.
        n_samples: impressions seen.
        loss: mean training logloss since the point before.
        learning_rate: of the dense parameters, at this step.
        samples_per_second: speed of the training loop so far.
    """

    step: int
    n_steps: int
    n_samples: int
    loss: FiniteFloat
    learning_rate: FiniteFloat
    samples_per_second: FiniteFloat


def read_curve(folder: Path, digest: str | None = None) -> list[CurvePoint]:
    """Read the training curve of the run in `folder`, also while it is trained; empty before its first line.

    Args:
        folder: of the run.
        digest: of the file, from the record of a finished run.

    Raises:
        UserError: a line is damaged, or the file differs from the digest. A last line without its end is being written, and
            is left out.
    """
    path = folder / CURVE_FILE
    try:
        with open_regular(path) as file:
            text = file.read().decode().replace("\r\n", "\n")
    except FileNotFoundError:
        return []
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read: {error}") from error
    check_file(path, digest)
    points = []
    for number, line in enumerate(text.split("\n")[:-1], start=1):
        where = f"{path}: line {number}"
        try:
            document = parse_json(line)
        except ValueError as error:
            raise UserError(f"{where}: not JSON: {error}") from error
        points.append(from_document(CurvePoint, document, where))
    return points
