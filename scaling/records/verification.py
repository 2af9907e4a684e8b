"""Whether the files of finished runs are as they were written: digests, types, and sizes that must agree."""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from scaling.documents import read_json
from scaling.errors import UserError
from scaling.records.digests import check_file
from scaling.records.record import RunRecord
from scaling.records.run_store import RunStore
from scaling.strict_values import from_document
from scaling.study import RunConfig

__all__ = ["RunsCheck", "verify_runs"]


_SIZES = ("n_params", "n_embedding_params", "flops_per_sample")


@dataclass(frozen=True)
class RunsCheck:
    """What was found in a folder of runs.

    Attributes:
        places: the folders of all finished runs.
        damaged: the folder of each damaged run and one line for each fault.
        n_without_digests: intact runs of earlier versions, of which only types and sizes can be checked.
    """

    places: tuple[Path, ...]
    damaged: dict[Path, tuple[str, ...]]
    n_without_digests: int


def verify_runs(folder: Path) -> RunsCheck:
    """Check every finished run of a study's folder, or of a folder of several studies; nothing is written.

    Raises:
        UserError: there is no such folder, or no finished run in it.
    """
    if folder.is_file():
        raise UserError(
            f"{folder}: a file, expected the folder of a study's runs, or of those of all studies (runs)"
        )
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; `scaling run` creates it")
    studies = [path for path in (folder, *sorted(folder.iterdir())) if path.is_dir()]
    found: dict[Path, list[str]] = {}
    intact: dict[Path, RunRecord] = {}
    for study in studies:
        runs = RunStore(study)
        for place in runs.complete():
            found[place] = []
            try:
                intact[place] = runs.read(place.name)
            except UserError as error:
                found[place].append(str(error))
    if not found:
        raise UserError(f"{folder}: no finished run; give the folder of a study's runs, or of all")
    for place, record in intact.items():
        for name, digest in record.files.items():
            try:
                check_file(place / name, digest)
            except UserError as error:
                found[place].append(str(error))
        if not _is_config_of(record, place / "config.json"):
            found[place].append(
                f"{place / 'config.json'}: differs from the configuration in its record; remove {place} to train the run again"
            )
    for place, text in _odd_sizes(intact):
        found[place].append(text)
    damaged = {place: tuple(texts) for place, texts in found.items() if texts}
    old = sum(not record.files for place, record in intact.items() if place not in damaged)
    return RunsCheck(tuple(found), damaged, old)


def _is_config_of(record: RunRecord, path: Path) -> bool:
    """Whether a run's configuration file, which earlier versions may lack, is that of its record."""
    if not path.exists():
        return True
    with suppress(UserError, ValueError, OSError, RecursionError):
        return from_document(RunConfig, read_json(path), "") == record.config
    return False


def _odd_sizes(records: dict[Path, RunRecord]) -> Iterator[tuple[Path, str]]:
    """Yield runs whose sizes differ from those of the first run of the same grade, model and data."""
    first: dict[object, tuple[Path, RunRecord]] = {}
    for place, record in records.items():
        config = record.config
        key = (config.grade, config.model, config.data_fingerprint)
        other, known = first.setdefault(key, (place, record))
        for name in _SIZES:
            own, expected = getattr(record, name), getattr(known, name)
            if own != expected:
                yield (
                    place,
                    f"{place / 'record.json'}: {name} is {own:,}, but {expected:,} in {other / 'record.json'}, a run of the same "
                    "grade, model and data; one of them was changed",
                )
