"""The latencies that `scaling serve-bench` measures, and their file `serving.json`. Needs no torch."""

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from scaling.atomic_files import write_json
from scaling.documents import read_json
from scaling.errors import UserError
from scaling.strict_values import from_document, require_positive

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

# Way of scoring M candidates of one user -> the work of one request.
WAYS = {
    "single": "one forward pass for each candidate",
    "repeated": "one batch, the history repeated for each candidate",
    "parallel": "the history encoded once, the candidates in one pass",
    "cached": "like parallel, but an earlier request encoded the history",
}

# With fewer requests, the 99th percentile is close to the slowest request.
ENOUGH_REQUESTS = 100


@dataclass(frozen=True)
class Latency:
    """The latency of one way and one number of candidates, from requests made one after the other.

    Attributes:
        way: a key of `WAYS`.
        n_candidates: M, candidates per request.
        n_requests: number of measured requests.
        p50_ms: median wall-clock time of a request, milliseconds; p95_ms and p99_ms are the percentiles.
        cpu_ms: median CPU time of a request; far below p50_ms if other work used the machine.
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

    def __post_init__(self) -> None:
        """Check that all numbers can be measured ones."""
        require_positive(self, "n_candidates", "n_requests", "p50_ms", "p95_ms", "p99_ms")
        require_positive(self, "candidates_per_second")
        if self.cpu_ms < 0:
            raise ValueError(f"cpu_ms is {self.cpu_ms}, expected 0 or more")

    @property
    def enough_seconds(self) -> float:
        """Seconds that `ENOUGH_REQUESTS` requests take."""
        return ENOUGH_REQUESTS * self.n_candidates / self.candidates_per_second


@dataclass(frozen=True)
class ServingReport:
    """Latencies of one run's model, for users with a full history.

    Attributes:
        signature: the name of the run's folder.
        model: the model's `models.model_options.SuanOptions` as a document.
        max_len: L, the latest behaviours that the model reads.
        state_bytes: size of one encoded user; None if histories cannot be shared between requests.
        n_threads: threads per request.
        latencies: ordered by number of candidates and way.
        environment: versions, platform, device (`scaling.records.describe_environment`) and processor.
    """

    signature: str
    model: dict[str, Any]
    max_len: int
    state_bytes: int | None
    n_threads: int
    latencies: tuple[Latency, ...]
    environment: dict[str, Any]

    def __post_init__(self) -> None:
        """Check the sizes, and that the model has a kind."""
        require_positive(self, "max_len", "n_threads")
        if not isinstance(self.model.get("kind"), str):
            raise ValueError("model.kind: expected the name of a kind of models")


def merge_reports(earlier: ServingReport, report: ServingReport) -> ServingReport | None:
    """Return a report with the latencies of both; where both measured the same, the later one counts.

    Returns:
        None if the two cannot be compared: other threads, other versions or another machine.
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
    """Write the report to the run's folder; it replaces an earlier one."""
    path = run_folder / SERVING_FILE
    write_json(path, asdict(report))
    return path


def read_serving(run_folder: Path) -> ServingReport | None:
    """Read a run's report; None if the run was never measured.

    Raises:
        UserError: the file is damaged.
    """
    path = run_folder / SERVING_FILE
    try:
        document = read_json(path)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: not a JSON file: {error}; measure again") from error
    return from_document(ServingReport, document, str(path))
