"""The verb on a trained model: `scaling serve-bench`."""

from __future__ import annotations

import logging
import math
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from scaling.cli.options import AsJson, Output
from scaling.cli.output import counted, emit, format_duration, format_table
from scaling.errors import UserError

if TYPE_CHECKING:
    from scaling.config import RunConfig
    from scaling.records import RunRecord
    from scaling.serving_report import Latency, ServingReport

__all__ = ["add_verbs"]

logger = logging.getLogger(__name__)

# Wall-clock time over CPU time from which latencies say more of the machine's other work than of the model.
_BUSY = 1.3
_MOST_CANDIDATES, _MOST_SECONDS = 100_000, 3600.0


@dataclass(frozen=True)
class _Run:
    """A run to measure; of one without a record only the folder is known.

    `told` is what else tells its model from the study's others, e.g. window 8.
    """

    folder: Path
    config: RunConfig | None
    told: str = ""

    @property
    def has_model(self) -> bool:
        from scaling.records import MODEL_FILE

        return (self.folder / MODEL_FILE).exists()

    @property
    def model(self) -> str | None:
        """For people, e.g. LightSUAN-1 after SUAN-2, frozen."""
        if self.config is None:
            return None
        name, taught = self.config.grade_name, self.config.distill
        if self.config.model.kind == "lightsuan" and not name.startswith("Light"):
            name = f"Light{name}"
        name = name if taught is None else f"{name} after {taught.teacher_name}, {taught.way}"
        return f"{name}, {self.told}" if self.told else name

    @property
    def label(self) -> str:
        if self.config is None:
            return self.folder.name
        return f"{self.folder.name} {self.model} D={self.config.n_samples} s{self.config.seed}"

    @property
    def cells(self) -> list[object]:
        own = (self.config.n_samples, self.config.seed) if self.config else (None, None)
        return [self.folder.resolve().name, self.model, *own]


def add_verbs(app: typer.Typer) -> None:
    """Register the verbs on the command `scaling`."""
    app.command("serve-bench")(serve_bench)


def serve_bench(
    run: Annotated[
        list[Path],
        typer.Argument(
            metavar="RUN...",
            help="Folder of a finished run, or a study's: one seed of each of its models.",
        ),
    ],
    candidates: Annotated[
        str, typer.Option(metavar="M,...", help="Candidates that a request scores.")
    ] = "1,10,100,500",
    threads: Annotated[
        int, typer.Option(min=1, help="Threads that a request may use; at most the cores.")
    ] = 1,
    seconds: Annotated[
        float, typer.Option(min=0.0, help="Seconds spent on each way and number of candidates.")
    ] = 2.0,
    as_json: AsJson = False,
    output: Output = None,
) -> None:
    """Print a model's latency by way of serving; keep it beside the run as serving.json.

    single: a forward pass for each candidate; repeated: one batch, the history repeated; parallel: the
    history encoded once, all candidates in one pass; cached: as parallel, the history encoded before.
    Latencies for other numbers of candidates stay in serving.json, if they were measured alike.

    Example: scaling serve-bench runs/quickstart --candidates 1,100
    """
    from sweeps.job import prepare_process

    numbers = _numbers(candidates)
    _check_effort(threads, seconds)
    runs = _with_models([one for folder in run for one in _runs(folder)])
    prepare_process()
    measured = _measure(runs, numbers, threads, seconds)
    latencies = [latency for _, report in measured for latency in report.latencies]
    _warn(latencies)
    rows = [
        [*one.cells, *asdict(latency).values()]
        for one, report in measured
        for latency in report.latencies
    ]
    header = ["run", "model", "n_samples", "seed", *asdict(latencies[0])]
    document = [asdict(report) for _, report in measured]
    emit(format_table(header, rows), document, as_json=as_json, output=output)


def _measure(
    runs: Sequence[_Run], numbers: Sequence[int], threads: int, seconds: float
) -> list[tuple[_Run, ServingReport]]:
    """Measure runs one after the other, tell of each, and keep each report as soon as it is there.

    Raises:
        UserError: no model can be read.
    """
    from scaling.serving import bench_serving
    from scaling.serving_report import WAYS

    whole = len(runs) * len(numbers) * len(WAYS) * seconds
    logger.info("measuring %s: at least %s", counted(len(runs), "model"), format_duration(whole))
    measured: list[tuple[_Run, ServingReport]] = []
    n_replaced, begin = 0, time.monotonic()
    for done, one in enumerate(runs, 1):
        try:
            report = bench_serving(one.folder, numbers, n_threads=threads, seconds=seconds)
        except UserError as error:
            if len(runs) == 1:
                raise
            logger.warning("%d/%d %s left out: %s", done, len(runs), one.label, error)
            continue
        n_replaced += _keep(one.folder, report)
        measured.append((one, report))
        left = (time.monotonic() - begin) / done * (len(runs) - done)
        logger.info(
            "%d/%d %s: %s%s", done, len(runs), one.label, _told(report),
            f", about {format_duration(left)} to go" if done < len(runs) else "",
        )  # fmt: skip
    if not measured:
        raise UserError(f"none of {counted(len(runs), 'model')} could be measured; see above")
    if n_replaced:
        logger.warning(
            "earlier latencies of %s were replaced: measured with other threads, versions or on another machine",
            counted(n_replaced, "run"),
        )
    return measured


def _keep(folder: Path, report: ServingReport) -> bool:
    """Write a report beside its run; return whether an earlier one that cannot stand beside it gave way."""
    from scaling.serving_report import merge_reports, read_serving, write_serving

    try:
        earlier = read_serving(folder)
    except UserError:  # damaged, of which its reader says: measure again
        earlier = None
    merged = report if earlier is None else merge_reports(earlier, report)
    write_serving(folder, merged or report)
    return merged is None


def _told(report: ServingReport) -> str:
    # parallel where histories can be shared
    latency = [one for one in report.latencies if one.way != "cached"][-1]
    return (
        f"{latency.way}, {counted(latency.n_candidates, 'candidate')}: p99 {latency.p99_ms:.3g} ms"
    )


def _warn(latencies: Sequence[Latency]) -> None:
    """Say what makes the latencies worth little."""
    from scaling.serving_report import ENOUGH_REQUESTS

    waited = sum(one.p50_ms for one in latencies) / sum(one.cpu_ms for one in latencies)
    if waited > _BUSY:
        logger.warning(
            "requests took %.1f times their CPU time: other work had the machine; measure on an idle one",
            waited,
        )
    few = [one for one in latencies if one.n_requests < ENOUGH_REQUESTS]
    if few:
        slowest = max(few, key=lambda one: one.enough_seconds)
        logger.warning(
            "%d of %d latencies are of fewer than %d requests, whose p99 says little; --seconds %d would do for "
            "all of them (%s of %s is the slowest)",
            *(len(few), len(latencies), ENOUGH_REQUESTS, math.ceil(slowest.enough_seconds)),
            *(slowest.way, counted(slowest.n_candidates, "candidate")),
        )


def _runs(folder: Path) -> list[_Run]:
    """A run, or of a study the first seed of each model and data size, the smallest first."""
    if folder.suffix == ".toml":
        raise UserError(f"{folder}: a study file; give the folder of its runs, e.g. runs/NAME")
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; expected that of a finished run")
    of_study = sorted(path.parent for path in folder.glob("*/record.json"))
    if not of_study and any(folder.glob("*/*/record.json")):
        raise UserError(
            f"{folder}: holds several studies; give the folder of one, e.g. {folder}/NAME"
        )
    if not of_study:
        record = _record(folder)
        return [_Run(folder, record.config if record else None)]
    from scaling.records import ordered_records

    found = [record for record in map(_record, of_study) if record is not None]
    models: dict[object, list[_Run]] = {}
    options, seen = _differing_options(found), _seen_by_teachers(found)
    for record in ordered_records(found):
        told = _what_differs(record, options, seen)
        one = _Run(folder / record.signature, record.config, told)
        models.setdefault(_but_for_the_seed(record), []).append(one)
    if len(models) < len(found):
        logger.info(
            "%s: one seed of each model and data size, %d of %d runs; name a run's folder to measure another",
            *(folder, len(models), len(found)),
        )
    # the records are in the order of their seeds
    return [next((one for one in seeds if one.has_model), seeds[0]) for seeds in models.values()]


def _differing_options(records: Sequence[RunRecord]) -> list[str]:
    """The options in which a study's models differ, but for the kind, which is in their names."""
    models = [record.config.model for record in records]
    names = [field.name for field in fields(models[0]) if field.name != "kind"] if models else []
    # a SUAN beside LightSUANs has no window at all
    return [n for n in names if len({getattr(one, n) for one in models} - {None}) > 1]


def _seen_by_teachers(records: Sequence[RunRecord]) -> dict[object, set[int]]:
    """How much the teachers of each name and of students of each data size had seen."""
    seen: dict[object, set[int]] = {}
    for record in records:
        if record.teacher is not None:
            seen.setdefault(_taught(record), set()).add(record.teacher.n_samples)
    return seen


def _taught(record: RunRecord) -> object:
    taught = record.config.distill
    return taught and (taught.teacher_name, taught.way, record.config.n_samples)


def _what_differs(
    record: RunRecord, options: Sequence[str], seen: Mapping[object, set[int]]
) -> str:
    model = record.config.model
    told = [
        f"{name.replace('_', ' ')} {getattr(model, name)}"
        for name in options
        if getattr(model, name) is not None
    ]
    if record.teacher is not None and len(seen[_taught(record)]) > 1:
        told.append(f"{record.teacher.n_samples:,} seen")
    return ", ".join(told)


def _but_for_the_seed(record: RunRecord) -> object:
    """What the seeds of a model share: the teacher's run is one for each."""
    config = replace(record.config, seed=0)
    if config.distill is None or record.teacher is None:
        return config
    distill = replace(config.distill, teacher_init=None)
    return replace(config, distill=distill), config.distill.way, record.teacher.n_samples


def _record(folder: Path) -> RunRecord | None:
    from scaling.records import RunStore

    runs = RunStore(folder.resolve().parent)
    name = folder.resolve().name
    if not runs.has(name):
        return None
    try:
        return runs.read(name)
    except UserError as error:
        logger.warning("%s", error)
        return None


def _with_models(runs: Sequence[_Run]) -> list[_Run]:
    """The runs that can be measured, each once; others are told.

    Raises:
        UserError: there is none, or a folder cannot be written.
    """
    from scaling.records import MODEL_FILE

    once = list({one.folder.resolve(): one for one in runs}.values())
    found = [one for one in once if one.has_model]
    if not once:
        raise UserError("no record can be read; see above")
    if not found:
        others = f", nor of {counted(len(once) - 1, 'other run')}" if len(once) > 1 else ""
        raise UserError(
            f"{once[0].folder / MODEL_FILE}: no such file{others}; "
            "a run keeps its model when it is done, unless [run] keep_model = false"
        )
    missing = [one.label for one in once if not one.has_model]
    if missing:
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        logger.warning(
            "left out without a %s ([run] keep_model = false?): %s%s",
            *(MODEL_FILE, ", ".join(missing[:3]), more),
        )
    for one in found:
        if not os.access(one.folder, os.W_OK):
            raise UserError(f"{one.folder}: cannot be written, but serving.json is kept there")
    return found


def _check_effort(threads: int, seconds: float) -> None:
    n_cores = len(os.sched_getaffinity(0))
    if threads > n_cores:
        raise UserError(
            f"--threads {threads}: this process may use {counted(n_cores, 'core')}; give at most {n_cores}"
        )
    if not seconds <= _MOST_SECONDS:
        raise UserError(f"--seconds {seconds:g}: expected at most {_MOST_SECONDS:g}, e.g. 2")


def _numbers(text: str) -> list[int]:
    parts = [part.strip() for part in text.split(",")]
    longest = len(str(_MOST_CANDIDATES))
    numbers = [int(part) if part.isdecimal() and len(part) <= longest else 0 for part in parts]
    if not 1 <= min(numbers) <= max(numbers) <= _MOST_CANDIDATES:
        raise UserError(
            f"--candidates {text[:60]}: expected whole numbers from 1 to {_MOST_CANDIDATES:,}, e.g. 1,10,100"
        )
    return list(dict.fromkeys(numbers))
