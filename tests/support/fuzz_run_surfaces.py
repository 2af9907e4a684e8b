"""The files of runs as inputs that others may hand over: records, curves, attempts, configurations, models, checkpoints."""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

from fuzz_inputs import VIEWS, Change, Done, Surface, is_one_in
from mutations import mutate_bytes, mutate_json, mutate_lines_of_json

__all__ = ["run_surfaces"]

Seed = Mapping[str, bytes]


# ---------------------------------------------------------------- records and curves


def _build_records() -> None:
    from recorded_runs import config_of, write_run

    from scaling.records import RunStore

    for grade in ("SUAN-0", "SUAN-1", "SUAN-2"):
        for n_samples in (4096, 8192, 16384):
            write_run(RunStore(Path("runs/t")), config_of(grade, n_samples))


def _change_record(rng: Random, seed: Seed) -> Change:
    name = rng.choice([name for name in seed if name.endswith("record.json")])
    content = seed[name]
    how = rng.randrange(4)
    if how == 0:
        return Change({name: mutate_bytes(rng, content)})
    document = json.loads(content)
    del document["digest"]
    if how == 1:  # as an earlier version wrote it
        del document["files"]
        return Change({name: mutate_json(rng, json.dumps(document, indent=2).encode())})
    # as somebody would who knows how the digest is made
    body = mutate_json(rng, json.dumps(document, indent=2).encode()).rstrip(b"\n} ")
    digest = hashlib.sha256(body).hexdigest()
    return Change({name: body + f',\n  "digest": "{digest}"\n}}\n'.encode()})


def _change_curve(rng: Random, seed: Seed) -> Change:
    name = rng.choice([name for name in seed if name.endswith("metrics.jsonl")])
    files: dict[str, bytes | None] = {name: mutate_lines_of_json(rng, seed[name])}
    if rng.random() < 0.7:  # of a run that goes on, whose curve has no digest
        files[name.replace("metrics.jsonl", "record.json")] = None
    return Change(files)


# errors only, as a damaged run that is left out is warned of; each with one input in so many, as some take a second
_OF_RUNS = (
    (("-q", "export", "runs/t", "--curves", "-o", "out/curves.csv"), 4),
    (("-q", "fit", "runs/t", "--law", "additive", "--interval", "none", "--json"), 4),
    (("-q", "compare", "runs/t", "--baseline", "grade=SUAN-0", "--json"), 32),
    (("-q", "gain", "runs/t", "--json"), 32),
    (("-q", "holdout", "runs/t", "--json"), 128),
    (("-q", "isoflop", "runs/t", "--json"), 32),
    (("-q", "next", "runs/t", "--json"), 32),
    (("-q", "plot", "runs/t", "--kind", "data", "-o", "out/figures"), 256),
)


def _record_commands(change: Change) -> Sequence[Sequence[str]]:
    one, other = sorted(str(path) for path in Path("runs/t").iterdir())[:2]
    return (
        ("verify", "runs/t", "--json"),
        ("-q", "table", "runs/t", "--json"),
        ("diff", one, other, "--json"),
        ("@facts",),
        *(command for command, n in _OF_RUNS if is_one_in(n, change, command[1])),
    )


def _check_records(change: Change, seed: Seed, done: Sequence[Done]) -> str:
    """What was written is read unchanged, of every run that was not touched; a changed byte is told."""
    if done[1].code:
        return ""
    rows = {row["signature"]: row for row in json.loads(done[1].out)}
    for name in (name for name in seed if name.endswith("record.json")):
        signature = Path(name).parent.name
        if name in change.files:
            found = re.search(rb',\n  "digest": "([0-9a-f]{64})"\n}\n\Z', change.files[name] or b"")
            body = (change.files[name] or b"")[: found.start()] if found else b""
            if (
                signature in rows
                and found
                and hashlib.sha256(body).hexdigest() != found[1].decode()
            ):
                return f"table: {signature} is read, although its digest does not match"
            continue
        logloss = json.loads(seed[name])["metrics"]["logloss"]
        if signature not in rows or rows[signature]["logloss"] != logloss:
            return f"table: {signature} is not as in its record"
    return ""


# ---------------------------------------------------------------- runs that are not finished

_STUDY = """\
[study]
name = "tiny"
[data]
path = "store"
[grid]
grade = ["SUAN-0", "SUAN-1"]
n_samples = [100, 200]
"""


def _build_attempts(write_store: Any) -> None:
    from scaling.records import RunStore
    from scaling.study import data_facts, load_study
    from sweeps.planning import make_plan

    write_store()
    Path("study.toml").write_text(_STUDY)
    study = load_study(Path("study.toml"))
    plan = make_plan(study, data_facts(study.data), RunStore(Path("runs/tiny")))
    attempt = {
        "number": 1, "id": "a", "state": "running", "time": 1.7e9, "started": "2026-01-01T00:00:00+00:00", "ended": None,
        "failure": None, "message": "", "cell": None, "first_step": 0, "step": 3, "n_steps": 10, "loss": 0.5,
        "samples_per_second": 100.0, "host": "elsewhere", "pid": 77, "slurm_job_id": None, "slurm_restart_count": 0,
        "submission": None, "ranks": 1, "sharded": False, "cpu_seconds": 1.5, "peak_memory_gib": 0.5, "gpu_busy": None,
    }  # fmt: skip
    for number, cell in enumerate(plan.cells):
        folder = Path("runs/tiny") / cell.config.signature
        (folder / "attempts").mkdir(parents=True)
        (folder / "config.json").write_text(json.dumps(asdict(cell.config)))
        ended = {
            "state": "ended",
            "ended": "2026-01-01T00:10:00+00:00",
            "failure": "oom",
            "message": "x",
        }
        for one in range(1, 3):
            document = {**attempt, "number": one, **(ended if (number + one) % 2 else {})}
            (folder / "attempts" / f"{one}.json").write_text(json.dumps(document))
    former = Path("runs/tiny/0123456789abcdef")
    former.mkdir()
    (former / "config.json").write_text(
        json.dumps({**asdict(plan.cells[0].config), "batch_size": 5})
    )


def _change_attempt(rng: Random, seed: Seed) -> Change:
    names = [name for name in seed if re.search(r"attempts/|config\.json", name)]
    name = rng.choice(names)
    return Change({name: mutate_json(rng, seed[name])})


_OF_ATTEMPTS = (
    ("status", "study.toml"),
    ("status", "study.toml", "--efficiency"),
    ("plan", "study.toml", "--json"),
)


def _attempt_commands(change: Change) -> Sequence[Sequence[str]]:
    return (
        ("status", "study.toml", "--json"),
        *(one for one in _OF_ATTEMPTS if is_one_in(2, change, " ".join(one))),
        *_difference(change),
    )


def _difference(change: Change) -> Sequence[Sequence[str]]:
    folders = [str(Path(name).parent) for name in change.files if name.endswith("config.json")]
    return [("diff", "runs/tiny/0123456789abcdef", folder, "--json") for folder in folders]


# ---------------------------------------------------------------- models and checkpoints


def _build_model(read_store: Any) -> None:
    from small_runs import small_config

    from models.kinds.building import empty_model
    from scaling.store import open_store
    from scaling.training.saved_model import save_model

    read_store()
    store = open_store(Path("store"))
    config = small_config(store)
    model = empty_model(config.grade, config.model, store.schema)
    for value in model.parameters():
        value.data.fill_(0.01)
    Path("model").mkdir()
    save_model(Path("model"), model, config, store.schema)


def _change_model(rng: Random, seed: Seed) -> Change:
    content = seed["model/model.safetensors"]
    size = int.from_bytes(content[:8], "little")
    header, body = content[8 : 8 + size], content[8 + size :]
    match rng.randrange(6):
        case 0:
            return Change({"model/model.safetensors": mutate_bytes(rng, content)})
        case 1:
            header = mutate_bytes(rng, header)
        case 2:
            header = mutate_json(rng, header)
        case 3:
            size_text = rng.choice(
                (
                    b"\xff" * 8,
                    b"\0" * 8,
                    (2**40).to_bytes(8, "little"),
                    (size + 1).to_bytes(8, "little"),
                )
            )
            return Change({"model/model.safetensors": size_text + header + body})
        case _:
            document = json.loads(header)
            facts = mutate_json(rng, document["__metadata__"]["facts"].encode())
            document["__metadata__"]["facts"] = facts.decode("utf-8", "replace")
            header = json.dumps(document).encode()
    return Change({"model/model.safetensors": len(header).to_bytes(8, "little") + header + body})


def _read_model() -> str:
    from scaling.training.saved_model import read_model

    model, schema = read_model(Path("model"))
    return f"{sum(value.numel() for value in model.parameters())} {len(schema.candidate)}\n"


def _load_scorer() -> str:
    from models.scoring import Scorer
    from scaling.errors import UserError

    try:
        Scorer.load(Path("model"))
    except (OSError, ValueError) as error:  # what its documentation says
        raise UserError(str(error)) from error
    return ""


def _build_checkpoints() -> None:
    import torch

    from scaling.training.checkpoint import Checkpoint, save_checkpoint

    for step in (3, 5):
        tensors = {"a": torch.arange(64.0), "b": torch.ones(3, 4)}
        facts = {"step": step, "items": [["x", {"tensor": "a"}]]}
        save_checkpoint(Path("checkpoints"), Checkpoint("cell", step, tensors, facts))


def _change_checkpoint(rng: Random, seed: Seed) -> Change:
    name = rng.choice([name for name in seed if name.startswith("checkpoints/")])
    content = mutate_bytes(rng, seed[name])
    if rng.random() < 0.5:
        return Change({name: content})
    digest = hashlib.sha256(content).hexdigest()[:16]
    return Change({name: None, f"{name.rsplit('-', 1)[0]}-{digest}.safetensors": content})


def _read_checkpoints() -> str:
    from scaling.training.checkpoint import read_checkpoints

    return "".join(
        f"{one.step} {len(one.tensors)}\n" for one in read_checkpoints(Path("checkpoints"), "cell")
    )


def _check_checkpoints(change: Change, seed: Seed, done: Sequence[Done]) -> str:
    """A checkpoint whose bytes are not those of its name is passed over; the other one is there."""
    changed = [
        c for name, c in change.files.items() if name in seed and c is not None and c != seed[name]
    ]
    expected = 1 if changed else 2
    n_found = len(done[0].out.splitlines())
    if changed and n_found != expected:
        return f"{n_found} checkpoints are read, of which one was changed"
    return ""


def _read_facts() -> str:
    from scaling.mirrors import read_facts

    return "".join(
        f"{one.label!r} {one.started} {one.ended} {len(one.curve)}\n"
        for one in read_facts(Path("runs/t"))
    )


VIEWS |= {
    "@facts": _read_facts,
    "@model": _read_model,
    "@scorer": _load_scorer,
    "@checkpoints": _read_checkpoints,
}


def run_surfaces(write_store: Any) -> list[Surface]:
    """Return the surfaces; `write_store` writes a small store into the working directory."""
    return [
        Surface(
            "records", _build_records, _change_record, _record_commands, (0, 1), _check_records
        ),
        Surface("curves", _build_records, _change_curve, _record_commands, (0, 1)),
        Surface(
            "attempts",
            partial(_build_attempts, write_store),
            _change_attempt,
            _attempt_commands,
            (0, 1),
        ),
        Surface(
            "models",
            partial(_build_model, write_store),
            _change_model,
            lambda _: (("@model",), ("@scorer",)),
        ),
        Surface(
            "checkpoints",
            _build_checkpoints,
            _change_checkpoint,
            lambda _: (("@checkpoints",),),
            check=_check_checkpoints,
        ),
    ]
