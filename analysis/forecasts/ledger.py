"""The ledger: a folder with one JSON file per forecast, which is created once and never changed.

Each file contains the digest of its own content, and its name the key of its question. Neither hinders someone who
wants to cheat; a commit of the ledger does.
"""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from analysis.fit import LawFit
from analysis.forecasts.forecast import Forecast, digest_of, size_text
from scaling.atomic_files import write_new
from scaling.documents import read_json
from scaling.errors import UserError
from scaling.strict_values import from_document

__all__ = ["LEDGER_FOLDER", "Entry", "add_forecast", "read_ledger"]


# The default ledger lies in the study's folder of runs, or beside the CSV.
LEDGER_FOLDER = "forecasts"
_DIGEST = "sha256"


@dataclass(frozen=True)
class Entry:
    """A file of the ledger: its forecast, or the reason why it counts as damaged."""

    path: Path
    forecast: Forecast | None
    problem: str = ""


def add_forecast(folder: Path, forecast: Forecast) -> tuple[Forecast, Path, bool]:
    """Add a forecast to the ledger, unless the same question has been answered there.

    Returns:
        The forecast that the ledger has now, its path, and whether it is new.

    Raises:
        UserError: the file of this question is damaged.
        StorageError: the folder cannot be written.
    """
    path = folder / _name(forecast)
    document: dict[str, Any] = asdict(forecast)
    # of several writers exactly one creates the file
    if write_new(path, {**document, _DIGEST: digest_of(document)}):
        return forecast, path, True
    entry = _read(path)
    if entry.forecast is None:
        raise UserError(
            f"{path}: damaged, {entry.problem}; restore it, or remove it to forecast again"
        )
    return entry.forecast, path, False


def read_ledger(folder: Path) -> list[Entry]:
    """Read all files of a ledger, oldest forecast first, damaged ones last; none if there is no folder.

    Raises:
        UserError: it is a file.
    """
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder}: a file, expected the folder of the forecasts")
    entries = [_read(path) for path in sorted(folder.glob("*.json")) if path.name[0] != "."]
    return sorted(
        entries, key=lambda e: (e.forecast is None, e.forecast.made if e.forecast else "")
    )


def _name(forecast: Forecast) -> str:
    columns = forecast.fit["columns"]
    symbols = {column: variable for variable, column in columns.items()}
    sizes = [f"{symbols[column]}{size_text(size)}" for column, size in forecast.target.items()]
    return "-".join([*sizes, forecast.key]) + ".json"


def _check(forecast: Forecast) -> None:
    """Check what a forecast's types do not tell: its fit, and that both are of the same sizes and metric.

    Raises:
        UserError: the first thing that is wrong.
    """
    fit = LawFit.from_document(forecast.fit)
    from_document(dict[str, float], forecast.options.get("fixed"), "options.fixed")
    columns = [fit.columns[variable] for variable in fit.law.variables]
    if list(forecast.target) != columns or forecast.metric != fit.y:
        raise UserError(
            f"a forecast of {forecast.metric} at {', '.join(forecast.target)}, "
            f"but its fit is of {fit.y} by {', '.join(columns)}"
        )
    if not all(size > 0 for size in forecast.target.values()):
        raise UserError("target: expected positive sizes")
    if not fit.has_curve or not forecast.lower <= forecast.value <= forecast.upper:
        raise UserError("value: is not in its interval, or its fit has no curve")


def _read(path: Path) -> Entry:
    try:
        document = read_json(path)
    except OSError as error:
        return Entry(path, None, f"cannot be read: {error.strerror}")
    except (ValueError, RecursionError):
        return Entry(path, None, "not a JSON file")
    if not isinstance(document, dict) or _DIGEST not in document:
        return Entry(path, None, "not a forecast")
    digest = document.pop(_DIGEST)
    try:
        is_intact = digest == digest_of(document)
    except (ValueError, RecursionError):
        is_intact = False
    if not is_intact:
        return Entry(path, None, "its content was changed after it was written")
    try:
        forecast = from_document(Forecast, document, str(path))
        _check(forecast)
    except UserError as error:
        return Entry(path, None, f"not a forecast of this version: {error}")
    if path.name != _name(forecast):
        return Entry(path, None, f"renamed or copied, its name was {_name(forecast)}")
    return Entry(path, forecast)
