"""The file `record.json`: written once with a digest of its own content, read strictly.

The last line before the closing brace is the SHA-256 of all bytes before that line, so a changed byte is told without
parsing. Records of earlier versions have no digest; their types and sizes are checked all the same.
"""

import hashlib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, FiniteFloat

from scaling.atomic_files import to_json
from scaling.documents import open_regular, parse_json
from scaling.errors import UserError
from scaling.records.record import RunRecord
from scaling.strict_values import from_document, tolerant
from scaling.study import RUN_SCHEMA_VERSION

__all__ = ["check_file", "file_digest", "read_record", "record_text", "without_digest"]


_DIGEST = re.compile(rb',\n  "digest": "([0-9a-f]{64})"\n}\n\Z')
_CLOSING = "\n}\n"
_ROUNDED = 1e-9  # relative, between numbers that were computed from each other


@tolerant
@dataclass(frozen=True)
class _Provenance:
    """The facts of a run's provenance that are read, with their types; each may be absent."""

    device: str | None = None
    command: str | None = None
    started: str | None = None
    ended: str | None = None
    data: str | None = None
    versions: dict[str, str | None] | None = None
    truth: dict[str, FiniteFloat] | None = None
    excess_logloss_by_rank: (
        dict[Annotated[str, Field(pattern=r"^[1-9]\d{0,8}$")], FiniteFloat] | None
    ) = None
    attempts: list[dict[str, Any]] | None = None


def record_text(record: RunRecord) -> str:
    """Return the text of the file, with its digest."""
    body = to_json(asdict(record)).removesuffix(_CLOSING)
    digest = hashlib.sha256(body.encode()).hexdigest()
    return f'{body},\n  "digest": "{digest}"{_CLOSING}'


def without_digest(text: bytes) -> bytes:
    """Return the text of a record without its digest, which is compared if there is one.

    Raises:
        ValueError: the text differs from what was written.
    """
    found = _DIGEST.search(text)
    if found is None:
        if b'"files"' in text:  # of a version that writes digests
            raise ValueError(
                "its digest is missing: the file was cut or changed after it was written"
            )
        return text
    body = text[: found.start()]
    if hashlib.sha256(body).hexdigest() != found[1].decode():
        raise ValueError(
            "its digest does not match: the file was damaged or changed after it was written"
        )
    return body + _CLOSING.encode()


def read_record(path: Path) -> RunRecord:
    """Read a record, whatever the name of its folder.

    Raises:
        UserError: it cannot be read, was changed, is of another version, or a value is impossible.
    """
    advice = f"remove {path.parent} to train the run again"
    try:
        text = _content(path)
        document = _document(text, path)
        _check_version(document, path)
        record = from_document(RunRecord, document, str(path))
        from_document(_Provenance, record.provenance, f"{path}: provenance")
        if not _DIGEST.search(text):
            _check_flops(record, path)
            _check_metrics(record.metrics, path)
        return record
    except (_OtherVersionError, _ForbiddenError) as error:
        raise UserError(str(error)) from None
    except UserError as error:
        raise UserError(f"{error}; {advice}") from error


def check_file(path: Path, digest: str | None) -> None:
    """Check that a file of a finished run is the one whose digest the record holds; None: the record has none.

    Raises:
        UserError: it was changed, or cannot be read.
    """
    if digest is None:
        return
    if not path.exists():
        raise UserError(f"{path}: missing; remove {path.parent} to train the run again")
    if file_digest(path) != digest:
        raise UserError(
            f"{path}: its digest differs from that in {path.with_name('record.json')}: the file was damaged or changed after "
            f"it was written; remove {path.parent} to train the run again"
        )


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file.

    Raises:
        UserError: it cannot be read.
    """
    try:
        with open_regular(path) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from error


def _check_metrics(metrics: Mapping[str, float], path: Path) -> None:
    """Check that the logloss is the one from which the normalised entropy was computed (`scaling.metrics`)."""
    rate = metrics.get("base_rate", 0.0)
    if 0 < rate < 1 and {"logloss", "normalized_entropy"} <= metrics.keys():
        of_rate = -(rate * math.log(rate) + (1 - rate) * math.log1p(-rate))
        expected = metrics["normalized_entropy"] * of_rate
        if not math.isclose(metrics["logloss"], expected, rel_tol=_ROUNDED):
            raise UserError(
                f"{path}: metrics.logloss is {metrics['logloss']:.6g}, but its normalized_entropy and base_rate are of {expected:.6g}"
            )


def _check_flops(record: RunRecord, path: Path) -> None:
    """Check that the training's FLOPs follow from those of a sample, as `scaling.training` computes them."""
    config = record.config
    passes, distill = 3 * record.flops_per_sample, config.distill
    if distill is not None and record.teacher is not None:
        passes += record.teacher.flops_per_sample * (1 if distill.is_frozen else 3)
    expected = passes * config.n_samples
    if record.flops != expected:
        raise UserError(
            f"{path}: flops is {record.flops:,}, but {config.n_samples:,} samples of this record's models take {expected:,}"
        )


class _OtherVersionError(UserError):
    """The record is sound, but of another version."""


class _ForbiddenError(UserError):
    """The record may be sound, but this user may not look at it."""


def _content(path: Path) -> bytes:
    try:
        with open_regular(path) as file:
            return file.read()
    except OSError as error:
        kind = _ForbiddenError if isinstance(error, PermissionError) else UserError
        raise kind(f"{path}: cannot be read: {error.strerror}") from error


def _document(text: bytes, path: Path) -> Any:
    try:
        return parse_json(without_digest(text).decode())
    except ValueError as error:
        raise UserError(f"{path}: {_reason(error)}") from error


def _reason(error: ValueError) -> str:
    if isinstance(error, json.JSONDecodeError | UnicodeDecodeError):
        return f"not a JSON file: {error}"
    return str(error)


def _check_version(document: Any, path: Path) -> None:
    config = document.get("config") if isinstance(document, dict) else None
    version = config.get("schema_version") if isinstance(config, dict) else None
    if isinstance(version, int) and version != RUN_SCHEMA_VERSION:
        raise _OtherVersionError(
            f"{path}: of run schema {version}, but this version has {RUN_SCHEMA_VERSION} and trains "
            "differently; choose another folder of runs"
        )
