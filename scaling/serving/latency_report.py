"""How fast a model serves: what `scaling serve-bench` measures and keeps beside its run. Free of torch."""

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from scaling.atomic_files import write_json
from scaling.errors import UserError
from scaling.strict_values import from_document

__all__ = [
    "ENOUGH_REQUESTS",
    "SERVING_FILE",
    "WAYS",
    "Latency",
    "ServingReport",
    "merge_reports",
    "read_serving",
    "write_serving",
]


SERVING_FILE = "serving.json"

# Way of scoring M candidates of one user -> what happens in a request.
WAYS = {
    "single": "one forward pass for each candidate",
    "repeated": "one batch, the history repeated for each candidate",
    "parallel": "the history encoded once, the candidates in one pass",
    "cached": "as parallel, the history encoded by an earlier request",
}

# Of fewer, the 99th percentile is about the slowest.
ENOUGH_REQUESTS = 100


@dataclass(frozen=True)
class Latency:
    """Requests of one kind, one after the other.

    Attributes:
        way: of `WAYS`.
        n_candidates: M, scored by a request.
        n_requests: measured; of few the high percentiles are the slowest.
        p50_ms: half of the requests took at most so long; p95_ms, p99_ms likewise.
        cpu_ms: CPU time of the median request; far less than p50_ms where other work had the machine.
        candidates_per_second: over all requests.
    """

    way: str
    n_candidates: int
    n_requests: int
    p50_ms: float
    p95_ms: float
    p99_ms: float
    cpu_ms: float
    candidates_per_second: float

    @property
    def enough_seconds(self) -> float:
        """How long it takes to measure `ENOUGH_REQUESTS`."""
        return ENOUGH_REQUESTS * self.n_candidates / self.candidates_per_second


@dataclass(frozen=True)
class ServingReport:
    """Latencies of one run's model, of users with a full history.

    Attributes:
        signature: the run's folder's name.
        model: its `models.model_options.SuanOptions` as a document.
        max_len: L.
        state_bytes: an encoded user's; None where histories cannot be shared.
        n_threads: that a request may use.
        environment: versions, platform, device (`scaling.records.provenance.describe_environment`), processor.
    """

    signature: str
    model: dict[str, Any]
    max_len: int
    state_bytes: int | None
    n_threads: int
    latencies: tuple[Latency, ...]
    environment: dict[str, Any]


def merge_reports(earlier: ServingReport, report: ServingReport) -> ServingReport | None:
    """Return a report with what an earlier one of the same run has of other ways or numbers of candidates.

    None where they were not measured alike: with other threads, versions or on another machine.
    """

    def circumstances(one: ServingReport) -> ServingReport:
        environment = {key: value for key, value in one.environment.items() if key != "command"}
        return replace(one, latencies=(), environment=environment)

    if circumstances(earlier) != circumstances(report):
        return None
    measured = {(one.n_candidates, one.way): one for one in (*earlier.latencies, *report.latencies)}
    places = {way: place for place, way in enumerate(WAYS)}
    order = sorted(measured, key=lambda pair: (pair[0], places.get(pair[1], len(places))))
    return replace(report, latencies=tuple(measured[pair] for pair in order))


def write_serving(run_folder: Path, report: ServingReport) -> Path:
    """Write the report beside the run; an earlier one is replaced."""
    path = run_folder / SERVING_FILE
    write_json(path, asdict(report))
    return path


def read_serving(run_folder: Path) -> ServingReport | None:
    """Read a run's report; None if it was never measured.

    Raises:
        UserError: the file is damaged.
    """
    path = run_folder / SERVING_FILE
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: not a JSON file: {error}; measure again") from error
    return from_document(ServingReport, document, str(path))
