"""Measures a few steps of the grades of which a local run knows nothing, in a process of its own."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from typing import TYPE_CHECKING

from scaling.cli.output import format_duration, runs_root
from scaling.cli.progress import stopped_cleanly

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from sweeps.planning import PlannedCell

__all__ = ["measure_unknown_grades"]


logger = logging.getLogger(__name__)

# A grade is measured if its cells are guessed to take this long.
_SECONDS_WORTH_A_MEASUREMENT = 300.0
# The measurement is stopped after a tenth of the guessed time of all cells, or after a minute if that is longer.
_MOST_SHARE, _LEAST_PATIENCE = 0.1, 60.0
_N_STEPS = 8


def measure_unknown_grades(
    study: Path, overrides: Sequence[str] | None, runs: Path | None, cells: Sequence[PlannedCell]
) -> bool:
    """Measure grades as `scaling benchmark` does; return whether there is a new measurement.

    Whatever goes wrong is logged, and the cells are trained without the measurement.

    Args:
        study: the study file.
        overrides: `section.key=value` texts.
        runs: folder of all runs, or None for the default.
        cells: the cells to train; those with a measurement are not measured again.
    """
    guessed: dict[str, float] = {}
    for cell in cells:
        if cell.source == "guess":
            for model in (cell.config.student_alone, cell.config.teacher_alone):
                if model is not None:
                    guessed[model.grade_name] = guessed.get(model.grade_name, 0.0) + cell.seconds
    long = {n: t for n, t in guessed.items() if t >= _SECONDS_WORTH_A_MEASUREMENT}
    root = runs_root(runs)
    if not long or not _is_writable(root):
        return False
    names = ", ".join(long)
    logger.info("measuring a few steps of %s, of which there is no measurement yet", names)
    command = [sys.executable, "-m", "scaling", "benchmark", str(study), "--runs", str(root)]
    command += ["--steps", str(_N_STEPS)]
    command += [word for name in long for word in ("--grade", name)]
    command += [word for text in overrides or () for word in ("--set", text)]
    most_seconds = max(_LEAST_PATIENCE, _MOST_SHARE * sum(long.values()))
    try:
        with stopped_cleanly():
            ended = subprocess.run(
                command, capture_output=True, text=True, timeout=most_seconds, check=False
            )
    except subprocess.TimeoutExpired:
        logger.warning(
            "warning: the measurement took over %s and was stopped; the times of some grades are still guessed",
            format_duration(most_seconds),
        )
        return True
    except OSError as error:
        logger.warning("warning: %s not measured, so times are guessed: %s", names, error)
        return False
    if ended.returncode:
        reason = (ended.stderr.strip().splitlines() or [f"exit code {ended.returncode}"])[-1]
        reason = reason.removeprefix("error: ")
        logger.warning("warning: %s not measured, so times are guessed: %s", names, reason)
    return ended.returncode == 0


def _is_writable(root: Path) -> bool:
    """Whether the folder, or the first of its parents that exists, can be written."""
    there = next(path for path in (root, *root.absolute().parents) if path.exists())
    return os.access(there, os.W_OK)
