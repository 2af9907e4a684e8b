"""Verbs on event stores: `scaling data import | generate | show`."""

import logging
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from scaling.cli.output import emit, format_table
from scaling.errors import UserError

__all__ = ["app"]

logger = logging.getLogger(__name__)

app = typer.Typer(help="Make and inspect event stores.", no_args_is_help=True)

Out = Annotated[
    Path, typer.Argument(metavar="OUT", help="Folder of the new store; must not exist.")
]


@app.command("import")
def import_(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The data set: movielens-1m.")],
    raw: Annotated[Path, typer.Argument(metavar="RAW", help="Folder of its files as published.")],
    out: Out,
    option: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=VALUE", help="An option of this data set; repeatable."),
    ] = None,
) -> None:
    """Turn raw files of a public data set into an event store; print its folder.

    Options of movielens-1m: min_rating=4 (lowest rating that is a click), test_fraction=0.2 (share of the
    impressions, latest first, in the test part).

    Example: scaling data import movielens-1m ml-1m data/movielens-1m --option min_rating=4
    """
    from scaling.importers import import_logs

    started = time.perf_counter()
    store = import_logs(name, raw, out, _pairs(option or []))
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
        int, typer.Option(help="Events before an impression that its click depends on.")
    ] = 128,
    warmup_events: Annotated[
        int, typer.Option(help="Median number of a user's events before the first request.")
    ] = 80,
) -> None:
    """Generate a log whose click probabilities are known, as an event store; print its folder.

    The same options give the same bytes. A larger --n-train holds the smaller log and has the same test part.

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
    store: Annotated[Path, typer.Argument(metavar="STORE", help="Folder of an event store.")],
    verify: Annotated[
        bool, typer.Option("--verify", help="Read every row and check it against the format.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON document, numbers unrounded.")
    ] = False,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Write here instead of stdout.")
    ] = None,
) -> None:
    """Print what a store holds: counts, base rates, features, history lengths, split, span, fingerprint.

    Example: scaling data show data/generated --verify
    """
    from scaling.store import open_store
    from scaling.store_summary import summarize_store

    document = summarize_store(open_store(store, verify=verify))
    if verify:
        logger.info("%s: every row checked", store)
    emit(_text(document), document, as_json=as_json, output=output)


def _pairs(options: list[str]) -> dict[str, str]:
    pairs = {}
    for option in options:
        key, equals, value = option.partition("=")
        if not equals:
            raise UserError(f"--option {option}: expected KEY=VALUE, for example min_rating=4")
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


def _text(document: dict[str, Any]) -> str:
    schema, counts = document["schema"], document["counts"]
    facts: list[list[object]] = [
        ["store", document["path"]],
        ["source", _source(document["source"])],
        ["fingerprint", document["fingerprint"]],
        ["split", _split(document["split"])],
        ["users", f"{counts['users']:,}"],
        ["events", f"{counts['events']:,}"],
        ["requests", f"{counts['requests']:,}"],
        [
            "size",
            f"{document['bytes'] / 1e6:,.1f} MB, {document['bytes_per_impression']:.0f} bytes per impression",
        ],
    ]
    facts += [[name, f"{value:.6f}"] for name, value in (document["truth"] or {}).items()]
    parts = [
        [part, counts[part], document["base_rate"][part], *document["span"][part]]
        for part in ("train", "test")
    ]
    features = [
        [
            group,
            feature["name"],
            feature["vocabulary"],
            schema["vocabularies"][feature["vocabulary"]],
        ]
        for group in ("behaviour", "candidate", "context", "profile")
        for feature in schema[group]
    ]
    features += [["numeric", name, "-", None] for name in schema["numeric"]]
    quantiles = document["history_quantiles"]
    return "\n\n".join(
        [
            "\n".join(f"{name:<14}{value}" for name, value in facts),
            format_table(["part", "impressions", "base rate", "first (UTC)", "last (UTC)"], parts),
            format_table(["group", "feature", "vocabulary", "size"], features),
            "events before an impression\n"
            + format_table(list(quantiles), [[round(value) for value in quantiles.values()]]),
        ]
    )


def _source(source: dict[str, Any]) -> str:
    name = source.get("importer") or source.get("kind", "unknown")
    settings = source.get("options") or source.get("config") or {}
    return " ".join([name, *(f"{key}={value}" for key, value in settings.items())])


def _split(split: dict[str, Any]) -> str:
    if split["kind"] == "time":
        return f"by time, test part from {split['boundary']}"
    return f"by {split['kind']}"
