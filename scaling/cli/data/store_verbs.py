"""Verbs on event stores: `scaling data import | generate | show | check | validate`."""

import logging
import os
import time
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from typer.core import TyperCommand

from scaling.atomic_files import atomic_path
from scaling.cli.options import AsJson, Output
from scaling.cli.output import emit
from scaling.cli.whole_summaries import WholeSummaries
from scaling.errors import UserError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["app"]


logger = logging.getLogger(__name__)

app = typer.Typer(help="Make and inspect event stores.", no_args_is_help=True, cls=WholeSummaries)

Store = Annotated[Path, typer.Argument(metavar="STORE", help="Folder of an event store.")]
Out = Annotated[
    Path, typer.Argument(metavar="OUT", help="Folder of the new store; must not exist.")
]


class ImportCluster(StrEnum):
    """Where the workers of an import run."""

    LOCAL = "local"
    SLURM = "slurm"


def _import_help() -> str:
    from scaling.importers import IMPORTERS

    sets = "\n\n".join(
        f"{name}: {importer.summary}. Options: "
        + (", ".join(f"{key}={value}" for key, value in asdict(importer.options).items()) or "none")
        for name, importer in IMPORTERS.items()
    )
    return (
        "Turn raw files of a data set into an event store; print its folder. docs/data.md says where to get each "
        f"data set and what its options mean.\n\n{sets}\n\n"
        "Example: scaling data import movielens-1m ml-1m data/movielens-1m --option min_rating=4"
    )


class _ImportCommand(TyperCommand):
    """Reads the table of importers only when the help is shown, because that takes 60 ms."""

    @property
    def help(self) -> str:
        return _import_help()

    @help.setter
    def help(self, _: str | None) -> None:
        pass


@app.command("import", cls=_ImportCommand)
def import_(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The data set, as listed above.")],
    raw: Annotated[
        Path, typer.Argument(metavar="RAW", help="Folder of the data set's files as published.")
    ],
    out: Out,
    option: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=VALUE", help="An option of this data set; repeatable."),
    ] = None,
    memory: Annotated[
        float,
        typer.Option(
            help="Limit of resident memory in GiB, of each worker; the output does not depend on it."
        ),
    ] = 4.0,
    threads: Annotated[
        int | None,
        typer.Option(
            help="Threads of each worker [default: all cores, divided by the workers].",
            show_default=False,
        ),
    ] = None,
    shards: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=1000,
            help="Cut the import into so many parts by a hash of the user; the store is the same, and a stopped import goes on.",
        ),
    ] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Workers of an import in shards.")] = 1,
    cluster: Annotated[
        ImportCluster,
        typer.Option(help="local: workers are processes of this machine; slurm: jobs."),
    ] = ImportCluster.LOCAL,
    slurm: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY=VALUE",
            help="Of each job: partition, time_minutes, cpus or another option of sbatch, e.g. account=ours; repeatable.",
        ),
    ] = None,
) -> None:
    """Import a data set; the text of the help is `_import_help`."""
    from scaling.cli.progress import stopped_cleanly, work_progress
    from scaling.importers import import_logs
    from scaling.importers.pipeline import Limits, Workers, local_workers

    started = time.perf_counter()
    if shards is None and (jobs > 1 or cluster is not ImportCluster.LOCAL or slurm):
        raise UserError("--jobs, --cluster and --slurm: expected with --shards only")
    workers: Workers | None
    if cluster is ImportCluster.SLURM:
        from sweeps.import_jobs import slurm_settings, slurm_workers

        settings = slurm_settings(_pairs(slurm or [], "slurm", "partition=cpu"))
        workers, threads = slurm_workers(jobs, settings), threads or settings.cpus
    else:
        if slurm:
            raise UserError("--slurm: expected with --cluster slurm only")
        workers = local_workers(jobs)
        if jobs > 1:
            threads = threads or max(1, len(os.sched_getaffinity(0)) // jobs)
    limits = Limits(memory, threads)
    with stopped_cleanly(), work_progress(f"import {name}") as report:
        store = import_logs(
            name,
            raw,
            out,
            _pairs(option or []),
            limits=limits,
            report=report,
            shards=shards,
            workers=workers,
        )
    _log_made(store.path, store.n_train, store.n_test, started)
    print(store.path)


@app.command()
def generate(
    out: Out,
    n_train: Annotated[int, typer.Option(help="Impressions of the training part.")],
    n_test: Annotated[int, typer.Option(help="Impressions of the test part.")] = 8192,
    seed: Annotated[int, typer.Option(help="Seed of the world and its users.")] = 0,
    n_items: Annotated[int, typer.Option(help="Items in the world.")] = 10_000,
    window: Annotated[
        int, typer.Option(help="Number of events before an impression that influence its click.")
    ] = 128,
    warmup_events: Annotated[
        int, typer.Option(help="Median number of a user's events before the first request.")
    ] = 80,
) -> None:
    """Generate a log with known click probabilities, as an event store; print its folder.

    The same options give the same bytes. A log with a larger --n-train contains the smaller log and has the same
    test part.

    Example: scaling data generate data/generated --n-train 65536 --seed 1
    """
    from scaling.synthetic import SyntheticConfig, generate_logs

    started = time.perf_counter()
    try:
        config = SyntheticConfig(n_train, n_test, seed, n_items, window, warmup_events)
    except ValueError as error:
        raise UserError(str(error)) from error
    store = generate_logs(out, config)
    _log_made(store.path, store.n_train, store.n_test, started)
    print(store.path)


@app.command()
def show(
    store: Store,
    plot: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Draw history lengths, impressions and base rate by day; .png, .pdf or .svg.",
        ),
    ] = None,
    as_json: AsJson = False,
    output: Output = None,
) -> None:
    """Print a summary of a store: counts, base rates, features, history lengths, split, time span, data sizes.

    The data sizes come from halving the training part until fewer than 100 impressions of the rarer class would
    be left. Days are in the log's time zone.

    Example: scaling data show data/generated --plot generated.png
    """
    from scaling.audit import summarize_store
    from scaling.cli.data.store_text import describe_store
    from scaling.store import open_store

    opened = open_store(store)
    document = summarize_store(opened)
    if plot is not None:
        from scaling.audit import plot_store

        _save(plot_store(opened), plot)
    emit(describe_store(document), document, as_json=as_json, output=output)


@app.command()
def check(
    store: Store,
    as_json: AsJson = False,
    output: Output = None,
) -> None:
    """Look for leaks, copies of the label, duplicates and unknown ids; exit with 1 on an error.

    `AUC alone` is the AUC of a single feature: click rates by id from the training part, applied to the test
    part. Above 0.95 is an error (a copy of the label), above 0.85 a warning. `future` is the correlation of a
    feature with the change that the test part makes to the click rates of candidates or users; above 0.75, the
    feature was computed from the test part's clicks.

    Example: scaling data check data/generated
    """
    from scaling.audit import audit_store
    from scaling.cli.data.store_text import describe_audit
    from scaling.store import open_store

    # it reads all arrays in any case
    audit = audit_store(open_store(store, verify=True))
    emit(describe_audit(audit), audit.to_json(), as_json=as_json, output=output)
    if not audit.is_clean:
        raise typer.Exit(1)


@app.command()
def validate(
    store: Store,
    as_json: AsJson = False,
    output: Output = None,
) -> None:
    """Check every row of a store against the format; print a line for each violation, and exit with 1 if there is one.

    Use it for stores that another program wrote; docs/file-formats.md describes the format.

    Example: scaling data validate data/generated
    """
    from scaling.store import validate_store

    breaches = validate_store(store)
    text = "\n".join(breaches) or f"{store}: good, every row checked"
    emit(text, {"path": str(store), "breaches": breaches}, as_json=as_json, output=output)
    if breaches:
        raise typer.Exit(1)


def _pairs(
    options: list[str], name: str = "option", example: str = "min_rating=4"
) -> dict[str, str]:
    pairs = {}
    for option in options:
        key, equals, value = option.partition("=")
        if not equals:
            raise UserError(f"--{name} {option}: expected KEY=VALUE, for example {example}")
        pairs[key.strip()] = value.strip()
    return pairs


def _log_made(path: Path, n_train: int, n_test: int, started: float) -> None:
    seconds = time.perf_counter() - started
    logger.info(
        "%s: %s training and %s test impressions in %.1f s",
        path,
        f"{n_train:,}",
        f"{n_test:,}",
        seconds,
    )


def _save(figure: "Figure", path: Path) -> None:
    kinds = ("png", "pdf", "svg")
    kind = path.suffix.removeprefix(".")
    if kind not in kinds:
        raise UserError(f"--plot {path}: expected a name that ends in .{', .'.join(kinds)}")
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format=kind, dpi=120)
