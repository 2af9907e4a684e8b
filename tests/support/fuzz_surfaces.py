"""The kinds of input that a user or a colleague may hand over: valid files, changes of them, and what reads them."""

import csv
import hashlib
import io
import json
import re
import tomllib
from collections.abc import Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from fuzz_inputs import Change, Done, Surface, is_one_in
from fuzz_run_surfaces import run_surfaces
from mutations import (
    mutate_cells,
    mutate_json,
    mutate_lines_of_json,
    mutate_npy,
    mutate_parquet,
    mutate_toml,
    strange_toml_value,
)

__all__ = ["SURFACES"]

Seed = Mapping[str, bytes]

STUDY = """\
[study]
name = "tiny"
description = "A small study"
[data]
path = "store"
[grid]
grade = ["SUAN-0", "own"]
n_samples = [100, 200]
n_seeds = [2, 1]
"model.norm" = ["rms", "layer"]
[grades.own]
n_layers = 1
n_heads = 1
d = 4
max_len = 8
[model]
dropout = 0.1
[train]
schedule = "decay"
batch_size = 16
rate_multiple = 2.0
rate_of_kind = {suan = 1.5}
[slurm]
partition = "cpu"
time_minutes = 10
memory_gib = 2.5
setup = ["module load x"]
options = {account = "ours"}
[slurm.grades.own]
cpus = 2
[run]
checkpoint_seconds = 5.0
keep_model = false
[goal]
quantity = "alpha"
width = 0.1
core_hours = 10.0
"""
PLAIN_STUDY = """\
[study]
name = "tiny"
[data]
path = "store"
[grid]
grade = ["SUAN-0", "SUAN-1"]
n_samples = [100, 200]
"""
_MORE_STUDY = (
    '[distill]\nteacher = "SUAN-1"',
    '[distill]\nteacher = "SUAN-1"\nweight = 0.5\ntemperature = 2.0\nstudent = "SUAN-0"',
    "[data.generate]\nn_train = 300\nn_test = 100\nn_items = 200\nwarmup_events = 10",
    "[train.rate_law]\nfactor = 1.0\nwidth_exponent = 0.5\nsamples_exponent = 0.1\ntoken_width = 8\nn_samples = 1000",
    '[grid.train]\npacking = ["none", "request"]',
    '[grid.model]\nkind = ["din", "bst"]',
    '[grid.model]\nffn = ["glu", "plain"]',
    "[slurm.grades.SUAN-0]\ngpus = 2\nnodes = 2",
    '[grades."a/b"]\nn_layers = 1\nn_heads = 1\nd = 4\nmax_len = 8',
)


@cache
def _store_files() -> dict[str, bytes]:
    from scaling.synthetic import SyntheticConfig, generate_logs

    with TemporaryDirectory() as folder:
        path = Path(folder) / "store"
        generate_logs(path, SyntheticConfig(n_train=300, n_test=100, n_items=200, warmup_events=10))
        return {str(file.relative_to(path)): file.read_bytes() for file in path.rglob("*.*")}


def _write_store() -> None:
    for name, content in _store_files().items():
        file = Path("store") / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)


def _build_store() -> None:
    _write_store()
    Path("study.toml").write_text(PLAIN_STUDY)


def _build_list_store() -> None:
    from list_logs import write_list_store

    write_list_store(Path("store"))
    Path("study.toml").write_text(PLAIN_STUDY)


# ---------------------------------------------------------------- studies


def _build_study() -> None:
    _write_store()
    Path("study.toml").write_text(STUDY)


def _change_study(rng: Random, seed: Seed) -> Change:
    return Change({"study.toml": mutate_toml(rng, seed["study.toml"], _MORE_STUDY)})


def _study_commands(change: Change) -> Sequence[Sequence[str]]:
    return (
        ("show", "study.toml", "--json", *change.arguments),
        ("plan", "study.toml", "--json", "--runs", "runs", *change.arguments),
    )


def _check_study(change: Change, seed: Seed, done: Sequence[Done]) -> str:
    """Each value that the file sets is a value of the study."""
    if any(one.code for one in done):
        return ""
    text = (change.files.get("study.toml") or seed["study.toml"]).decode()
    shown = {one["key"]: one["value"] for one in json.loads(done[0].out)}
    for key, value in _flat(tomllib.loads(text)):
        if key.startswith(("grid.model.", "grid.train.", "grid.distill.", "goal.")):
            continue
        found = shown.get(key)
        if (
            found != value
            and not (isinstance(value, list | dict) and found is None)
            and str(found) != str(value)
            and not (isinstance(found, float) and isinstance(value, int) and found == float(value))
        ):
            return f"show: {key} is {found!r}, the file says {value!r}"
    return ""


def _flat(part: Any, prefix: str = "") -> Any:
    for name, value in part.items():
        if isinstance(value, dict) and value:
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


_KEYS = (
    *("study.name", "study.description", "data.path", "data.generate", "data.generate.n_train", "grid.grade", "grid.n_samples", "grid.n_seeds"),
    *("grid.model.norm", 'grid."model.norm"', "grid.train.packing", "model.kind", "model.dropout", "model.window", "model.norm", "train.schedule"),
    *("train.batch_size", "train.learning_rate", "train.recipe", "train.packing", "train.precision", "train.share_prefix", "train.rate_law"),
    *("train.data_order", "train.batch_schedule", "train.recipe_n_samples", "distill.teacher", "distill.weight", "distill.student", "distill.mode"),
    *("slurm.partition", "slurm.gpus", "slurm.cpus", "slurm.options", "slurm.options.x", "slurm.setup", "slurm.cells_per_gpu", "slurm.time_minutes"),
    *("run.checkpoint_seconds", "run.device_memory_gib", "run.compile", "goal.quantity", "goal.width", "goal.at", "goal", "grades.own.d", "grades.x"),
    *("grades.own.n_layers", "grades.own.max_len", "a", "a.b", "", ".", "a..b", "study", "study.name.x", "grid.grade.x", "x" * 5000 + ".y", ".".join("a" * 3000)),
)  # fmt: skip
_WORDS = (
    "suan",
    "din",
    "lightsuan",
    "bst",
    "models.suan:SUAN",
    "os:system",
    "x:y",
    "request",
    "stretch",
    "recent",
    "growing",
    "bf16",
    "SUAN-9",
    "all",
    "",
)


def _change_overrides(rng: Random, seed: Seed) -> Change:
    words = []
    for _ in range(rng.choice((1, 1, 2, 3))):
        key = rng.choice(_KEYS)
        value = rng.choice(_WORDS) if rng.random() < 0.3 else strange_toml_value(rng)
        # an argument cannot hold a NUL
        words += [
            "--set",
            rng.choice((f"{key}={value}",) * 9 + (key, f"{key}:{value}"))[:100_000].replace(
                "\0", ""
            ),
        ]
    return Change({}, tuple(words))


# ---------------------------------------------------------------- tables of results


def _table() -> Any:
    from reported_study import make_table

    return make_table(1)


def _build_table() -> None:
    _table().drop(columns=["bayes_logloss", "bayes_auc"]).to_csv("runs.csv", index=False)


def _change_table(rng: Random, seed: Seed) -> Change:
    return Change({"runs.csv": mutate_cells(rng, seed["runs.csv"])})


# each with one input in so many, as some take a second
_OF_TABLES = (
    (("gain", "runs.csv", "--json"), 16),
    (("holdout", "runs.csv", "--json"), 128),
    (("isoflop", "runs.csv", "--json"), 16),
    (("allocate", "runs.csv", "--flops", "1e15", "--json"), 8),
    (("next", "runs.csv", "--json"), 16),
    (("forecast", "runs.csv", "--at", "1e6,1e7", "--json", "--ledger", "out/forecasts"), 32),
    (("export", "runs.csv", "-o", "out/runs.parquet"), 16),
    (("compare", "runs.csv", "--baseline", "grade=SUAN-0", "--json"), 16),
    (("plot", "runs.csv", "--kind", "data", "-o", "out/figures"), 256),
)


def _table_commands(change: Change) -> Sequence[Sequence[str]]:
    return (
        ("table", "runs.csv", "--json"),
        ("fit", "runs.csv", "--interval", "none", "--json"),
        *(command for command, n in _OF_TABLES if is_one_in(n, change, command[0])),
    )


def _check_table(change: Change, seed: Seed, done: Sequence[Done]) -> str:
    """Each number of an accepted table is what Python's own reader of CSV finds there."""
    if done[0].code:
        return ""
    from analysis.table import read_table

    text = Path("runs.csv").read_bytes().decode("utf-8-sig")
    rows = [
        row
        for row in csv.reader(io.StringIO(text, newline=None), skipinitialspace=True)
        if any(cell.strip() for cell in row)
    ]
    table = read_table(Path("runs.csv"))
    if len(rows) - 1 != len(table) or [c.strip() for c in rows[0]] != list(table.columns):
        return f"table: {len(table)} rows of {list(table.columns)}, csv finds {len(rows) - 1} of {rows[0]}"
    for column, cells in zip(table.columns, zip(*rows[1:], strict=True), strict=True):
        if table[column].dtype.kind not in "if":
            continue
        expected = [
            float("nan")
            if re.fullmatch(r"|[#<]?[nN][/aAuU]?.*|None|-[nN].*", c.strip())
            else float(c)
            for c in cells
        ]
        if not np.array_equal(np.asarray(expected), table[column].to_numpy(float), equal_nan=True):
            return f"table: column {column} differs from the cells of the file"
    return ""


# ---------------------------------------------------------------- event stores


def _change_store(rng: Random, seed: Seed) -> Change:
    manifest = "store/dataset.json"
    names = [name for name in seed if name.endswith(".npy")]
    if rng.random() < 0.4:
        return Change({manifest: mutate_json(rng, seed[manifest])})
    name = rng.choice(names)
    if rng.random() < 0.03:
        return Change({name: rng.choice((None, b""))})
    content = mutate_npy(rng, seed[name])
    files = {name: content}
    if rng.random() < 0.5:  # as a program would state it that wrote these values
        document = json.loads(seed[manifest])
        start = 10 + int.from_bytes(content[8:10], "little")
        document["arrays"][name.removeprefix("store/").removesuffix(".npy")]["sha256"] = (
            hashlib.sha256(content[start:]).hexdigest()
        )
        from scaling.store.manifest import document_fingerprint

        document["fingerprint"] = document_fingerprint(document)
        files[manifest] = json.dumps(document).encode()
    return Change(files)


def _store_commands(change: Change) -> Sequence[Sequence[str]]:
    return (
        ("data", "validate", "store"),
        ("data", "check", "store", "--json"),
        (
            ("plan", "study.toml", "--runs", "runs")
            if is_one_in(2, change, "plan")
            else ("data", "show", "store", "--json")
        ),
    )


def _check_store(change: Change, seed: Seed, done: Sequence[Done]) -> str:
    """What `validate` finds right has the contents that its digests state."""
    if done[0].code:
        return ""
    document = json.loads(Path("store/dataset.json").read_bytes())
    for name, array in document["arrays"].items():
        path = Path(f"store/{name}.npy")
        if path.exists():
            values = np.load(path)
            if hashlib.sha256(values.tobytes()).hexdigest() != array["sha256"]:
                return f"validate: {name} is not as its digest says, and nothing was told"
    return ""


# ---------------------------------------------------------------- raw logs


def _build_raw(name: str) -> None:
    from raw_logs import write_raw

    write_raw(Path("raw"), name)


def _build_movielens_1m() -> None:
    raw = Path("raw")
    raw.mkdir()
    (raw / "users.dat").write_text("1::F::1::10::48067\n2::M::56::16::70072\n3::M::25::15::55117\n")
    (raw / "movies.dat").write_bytes(
        "1::Toy Story (1995)::Animation|Comedy\n2::Léon (1994)::Action\n3::X (2000)::Drama\n".encode(
            "latin-1"
        )
    )
    rng = Random(0)
    (raw / "ratings.dat").write_text(
        "".join(
            f"{rng.randrange(1, 4)}::{rng.randrange(1, 4)}::{rng.randrange(1, 6)}::{978300000 + 7 * i}\n"
            for i in range(40)
        )
    )


def _build_table_log() -> None:
    from table_logs import make_rows, write_table_log

    write_table_log(Path("raw"), make_rows(60))


def _build_parquet_log() -> None:
    from table_logs import as_parquet, make_rows, write_table_log

    write_table_log(Path("raw"), make_rows(60))
    as_parquet(Path("raw"))


def _build_listed_log() -> None:
    from listed_tables import DIALECTS, make_listed, write_listed

    write_listed(Path("raw"), make_listed(n=60), DIALECTS["empty entries"])


def _copy(select: str, path: str) -> None:
    import duckdb

    Path(path).parent.mkdir(parents=True, exist_ok=True)
    duckdb.execute(f"COPY ({select}) TO '{path}' (FORMAT parquet)")


def _build_yambda() -> None:
    _copy(
        "SELECT (i % 20 * 10)::UINTEGER AS uid, (i // 2 * 5)::UINTEGER AS timestamp, (i * 7 % 31)::UINTEGER AS item_id, "
        "(i % 3 = 0)::UTINYINT AS is_organic, (i * 13 % 120)::USMALLINT AS played_ratio_pct, "
        "200::UINTEGER AS track_length_seconds FROM range(300) t(i)",
        "raw/flat/50m/listens.parquet",
    )
    _copy(
        "SELECT (i % 4)::UINTEGER AS artist_id, i::UINTEGER AS item_id FROM range(30) a(i)",
        "raw/artist_item_mapping.parquet",
    )


def _build_vk_lsvd() -> None:
    for week, part in ((0, "train"), (1, "train"), (2, "validation")):
        _copy(
            "SELECT (i % 17)::UINTEGER AS user_id, (i * 5 % 40)::UINTEGER AS item_id, (i % 5)::UTINYINT AS place, "
            "(i % 2)::UTINYINT AS platform, (i % 3)::UTINYINT AS agent, (i % 90)::UTINYINT AS timespent, "
            f'i % 4 = 0 AS "like", i % 50 = 0 AS share FROM range({120 - 20 * week}) t(i)',
            f"raw/interactions/{part}/week_{week:02d}.parquet",
        )
    _copy(
        "SELECT i::UINTEGER AS item_id, (i % 6)::UINTEGER AS author_id, 30::UTINYINT AS duration FROM range(40) t(i)",
        "raw/metadata/items_metadata.parquet",
    )


_SEPARATORS = {"movielens-100k": b"\t", "mind": b"\t", "movielens-1m": b"::"}


def _change_raw(separator: bytes, rng: Random, seed: Seed) -> Change:
    names = [name for name in seed if name.startswith("raw/")]
    name = rng.choice(names)
    if rng.random() < 0.02:
        return Change({name: rng.choice((None, b"", b"\n", b"\x1f\x8b\x08" + seed[name]))})
    if name.endswith(".toml"):
        return Change({name: mutate_toml(rng, seed[name])})
    if name.endswith(".parquet"):
        return Change({name: mutate_parquet(rng, seed[name])})
    cut = b"|" if name.endswith(("u.user", "u.item")) else separator
    return Change({name: mutate_cells(rng, seed[name], cut)})


def _import_commands(name: str, change: Change) -> Sequence[Sequence[str]]:
    # starting threads costs more than they save on such logs
    threads = () if is_one_in(8, change, "threads") else ("--threads", "1")
    return (("-q", "data", "import", name, "raw", "out/store", *threads),)


def _check_import(change: Change, seed: Seed, done: Sequence[Done]) -> str:
    """A store that an import makes breaks no rule of the format, and holds no more rows than the log has."""
    if done[0].code:
        return ""
    from scaling.store import validate_store

    breaches = validate_store(Path("out/store"))
    return f"import: {breaches[0]}" if breaches else ""


def _raw_surface(name: str, build: Any, importer: str = "", separator: bytes = b",") -> Surface:
    return Surface(
        f"raw-{name}",
        build,
        partial(_change_raw, separator),
        partial(_import_commands, importer or name),
        check=_check_import,
    )


# ---------------------------------------------------------------- ledger of forecasts


def _build_ledger() -> None:
    from analysis.fit import FitOptions, fit_law
    from analysis.forecasts import add_forecast, make_forecast, settings_of
    from analysis.laws import build_law

    table = _table().drop(columns=["bayes_logloss", "bayes_auc"])
    early = table[(table["n_params"] < 50_000) & (table["n_samples"] < 100_000)].reset_index(
        drop=True
    )
    fit = fit_law(
        build_law("additive"), early, y="soft_logloss", options=FitOptions(fixed={"E": 0.4})
    )
    target = {"n_params": 100_000.0, "n_samples": 262_144.0}
    made = make_forecast(
        fit, early, early, target, study="early", settings=settings_of(early, early, list(target))
    )
    add_forecast(Path("forecasts"), made)
    table.to_csv("runs.csv", index=False)


def _change_ledger(rng: Random, seed: Seed) -> Change:
    name = next(name for name in seed if name.startswith("forecasts/"))
    content = mutate_json(rng, seed[name])
    if rng.random() < 0.6:  # as somebody would who knows how the digest is made
        from analysis.forecasts.forecast import digest_of

        try:
            document = json.loads(content)
            del document["sha256"]
            content = json.dumps({**document, "sha256": digest_of(document)}).encode()
        except (ValueError, TypeError, KeyError, RecursionError):
            pass
    return Change({name: content})


def _ledger_commands(change: Change) -> Sequence[Sequence[str]]:
    return (
        ("forecast", "runs.csv", "--score", "--json", "--ledger", "forecasts"),
        ("forecast", "runs.csv", "--score", "--ledger", "forecasts"),
    )


def _check_ledger(change: Change, seed: Seed, done: Sequence[Done]) -> str:
    """A forecast that is not told as damaged has the digest of its content."""
    if done[0].code:
        return ""
    from analysis.forecasts.forecast import digest_of

    (path,) = Path("forecasts").glob("*.json")
    document = json.loads(path.read_bytes())
    return "" if document.pop("sha256") == digest_of(document) else "a changed forecast is scored"


# ---------------------------------------------------------------- files in the folder of runs


def _build_serving() -> None:
    from reported_study import make_table, measure, write_runs

    table = make_table(1)
    write_runs(Path("runs/t"), table[(table["n_samples"] == 262144) & (table["n_params"] < 20_000)])
    measure(Path("runs/t"))


def _change_one_json(pattern: str, rng: Random, seed: Seed) -> Change:
    name = rng.choice([name for name in seed if re.search(pattern, name)])
    change = mutate_lines_of_json if name.endswith(".jsonl") else mutate_json
    return Change({name: change(rng, seed[name])})


def _serving_commands(change: Change) -> Sequence[Sequence[str]]:
    drawn = is_one_in(128, change, "figure")  # it takes a second
    figure = ("plot", "runs/t", "--kind", "frontier", "-o", "out/figures")
    return (("@served",), *((figure,) if drawn else ()))


def _build_planned() -> None:
    """A study with what lies beside its runs: benchmarks, a fit, submissions, a scan of rates, the log of a pursuit."""
    from models.grades import GRADES
    from models.model_options import SuanOptions
    from scaling.atomic_files import write_json
    from scaling.records import PursuitRound, append_round
    from scaling.study import load_study
    from sweeps.planning.cost_estimate import Throughput, keep_benchmarks

    _write_store()
    Path("study.toml").write_text(PLAIN_STUDY)
    fingerprint = json.loads(Path("store/dataset.json").read_text())["fingerprint"]
    speeds = [
        Throughput(
            GRADES[grade],
            SuanOptions(),
            "none",
            fingerprint,
            "cpu",
            0.01,
            1e-5,
            1e-5,
            1.0,
            0.5,
            "x",
            "float32",
            1e9,
            1e10,
        )
        for grade in ("SUAN-0", "SUAN-1")
    ]
    keep_benchmarks(Path("runs"), speeds)
    root = Path("runs/tiny")
    one = PursuitRound(
        1, "2026-01-01T00:00:00+00:00", "narrow", "alpha (additive)", 0.1, "converged", 9, 0.3, 0.2, None, 0.95, False,
        ("a1", "b2"), ("x", "y"), 0.12, 1.5, 2.0, 10.0, "core-hours", True, 0.975, False, "why",
    )  # fmt: skip
    append_round(root, [], one)
    append_round(root, [one], one)
    params = {"E": 0.388, "A": 6.0, "B": 1.41, "alpha": 0.76, "beta": 0.28}
    fit = {
        "noise": {"sd": 0.002, "run_sd": 0.003},
        "params": params,
        "status": "converged",
        "law": {"name": "additive"},
        "n_points": 9,
    }
    write_json(root / "fits" / "logloss-joint.json", fit)
    submission = {
        "cluster": "local", "cells": [["0123456789abcdef"], ["fedcba9876543210", "a1"]], "job_ids": ["12_0", "12_1"],
        "seconds": [1.5, 2.0], "resources": {"cpus": 1}, "code": None,
    }  # fmt: skip
    scan = {"asked": dict.fromkeys(("grades", "sizes", "factors", "hours")), "grades": ["SUAN-0", "SUAN-1"]}  # fmt: skip
    scan |= {"sizes": [100, 200], "factors": [0.5, 1.0, 2.0]}
    write_json(Path("runs/tiny-tune/scan.json"), scan)
    write_json(root / "submissions" / "20260101-000000-1-0" / "submission.json", submission)
    load_study(Path("study.toml"))


def _planned_commands(change: Change) -> Sequence[Sequence[str]]:
    name = next(iter(change.files), "")
    if name.endswith("submission.json"):
        further = ("--json",) if is_one_in(2, change, "status") else ()
        return (("status", "study.toml", *further), ("status", "study.toml", "--efficiency"))
    if name.endswith("scan.json"):
        return (("tune", "study.toml", "--dry-run", "--json"),)
    if name.endswith("pursuit.jsonl"):
        return (("@rounds",),)
    return (("plan", "study.toml", *(("--json",) if is_one_in(2, change, "plan") else ())),)


_RAW = (
    "movielens",
    "movielens-100k",
    "taobao-ads",
    "taobao-userbehavior",
    "eleme",
    "kuairand",
    "mind",
)
SURFACES = {
    one.name: one
    for one in (
        Surface("study", _build_study, _change_study, _study_commands, check=_check_study),
        Surface("overrides", _build_study, _change_overrides, _study_commands),
        Surface("table", _build_table, _change_table, _table_commands, (0, 1), _check_table),
        Surface("store", _build_store, _change_store, _store_commands, (0, 1), _check_store),
        Surface("store-lists", _build_list_store, _change_store, _store_commands, (0, 1), _check_store),
        Surface("forecasts", _build_ledger, _change_ledger, _ledger_commands, (0, 1), _check_ledger),
        Surface("serving", _build_serving, partial(_change_one_json, r"serving\.json"), _serving_commands, (0, 1)),
        Surface("benchmarks", _build_planned, partial(_change_one_json, r"benchmark\.json|joint\.json"), _planned_commands),
        Surface("submissions", _build_planned, partial(_change_one_json, r"submission\.json"), _planned_commands, (0, 1)),
        Surface("pursuit", _build_planned, partial(_change_one_json, r"pursuit\.jsonl"), _planned_commands),
        Surface("scan", _build_planned, partial(_change_one_json, r"scan\.json"), _planned_commands),
        *run_surfaces(_write_store),
        _raw_surface("movielens-1m", _build_movielens_1m, separator=b"::"),
        *(_raw_surface(name, partial(_build_raw, name), separator=_SEPARATORS.get(name, b",")) for name in _RAW),
        _raw_surface("table", _build_table_log, "table"),
        _raw_surface("table-lists", _build_listed_log, "table"),
        _raw_surface("table-parquet", _build_parquet_log, "table"),
        _raw_surface("yambda", _build_yambda),
        _raw_surface("vk-lsvd", _build_vk_lsvd),
    )
}  # fmt: skip
