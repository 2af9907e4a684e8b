"""Kills training at seeded instants, lets the next attempt finish, and compares it with an undisturbed run.

Two of five kills come just before the n-th operation on a file (opened, renamed, linked, removed), two a seeded time after
the first checkpoint, the others after a seeded time. Every cell must end with the numbers and the model of the undisturbed run, bit for bit, and leave nothing
behind but the files of a finished run.

    python -m tests.attack.kills --kills 200 -o benchmarks/results/attack-kills.json
"""

import argparse
import hashlib
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
import torch._dynamo  # which optimisers load: here once, not in each process until long after the start

from models.grades import GRADES
from models.kinds import encoder_class, options_of
from models.model_options import SuanOptions
from scaling.atomic_files import write_json
from scaling.records import RunStore
from scaling.store import EventStore
from scaling.study import Distillation, RunConfig, RunOptions, lease_key
from scaling.synthetic import SyntheticConfig, generate_logs
from scaling.training import ALONE, joined_ranks, run_on_disk, train_runs
from tests.support.own_classes import HEAD, SUM

KINDS = ("plain", "distilled", "lightsuan", "packed", "shared prefix", "two ranks", "own class")

_LEFT = {"config.json", "metrics.jsonl", "model.safetensors", "record.json"}
# Fields of a record that a clock decides; the curve has the speed in each line.
_CLOCK = {"train_seconds", "samples_per_second", "peak_memory_gib", "provenance", "files", "digest"}
_FILE_EVENTS = {"open", "os.rename", "os.link", "os.remove", "os.mkdir", "os.truncate"}
_ANSWER_SECONDS = 20.0

_OWN = HEAD + SUM


@dataclass(frozen=True)
class Instant:
    """When a process kills itself: before its n-th operation on a file of the runs, or after some seconds.

    Attributes:
        operation: n.
        seconds: since the process began.
        since_checkpoint: whether the seconds begin with its first checkpoint, so that the next attempt resumes.
        rank: of the process.
    """

    operation: int | None = None
    seconds: float | None = None
    since_checkpoint: bool = False
    rank: int = 0


@dataclass(frozen=True)
class Undisturbed:
    """What a run that nobody kills leaves, and what it takes: the instants are spread over that.

    Attributes:
        files: as `left_by` returns them.
        operations: on files of the runs, by rank 0.
        seconds: of rank 0.
        checkpoint: when its first one was there, in seconds.
    """

    files: dict[str, str]
    operations: int
    seconds: float
    checkpoint: float


@dataclass(frozen=True)
class Outcome:
    """What came of one cell that was killed.

    Attributes:
        kills: processes that were killed before they had ended.
        resumes: attempts that went on from a checkpoint.
        faults: what differs from the undisturbed run; empty if nothing does.
    """

    kills: int
    resumes: int
    faults: tuple[str, ...]


def cells(kind: str, store: EventStore) -> list[RunConfig]:
    """Return the runs of one training of a kind."""
    usual = RunConfig(
        "SUAN-1", GRADES["SUAN-1"], SuanOptions(dropout=0.1), 800, 0, 16, 0.01, "decay",
        "independent", store.fingerprint, 2,
    )  # fmt: skip
    light = SuanOptions(kind="lightsuan", window=4, dilation=4)
    if kind == "distilled":
        teacher = Distillation("SUAN-1", GRADES["SUAN-1"], SuanOptions(), 0.003, 1.0, 2.0)
        return [replace(usual, model=light, distill=teacher)]
    if kind == "lightsuan":
        return [replace(usual, model=light)]
    if kind == "packed":
        return [replace(usual, model=SuanOptions(), packing="request")]
    if kind == "shared prefix":
        steady = replace(usual, schedule="constant")
        return [replace(steady, n_samples=n) for n in (320, 800)]
    if kind == "own class":
        own = "attacked_class:Own"
        return [replace(usual, model=options_of(own, encoder_class(own).options_type()))]
    return [usual]


def attack(kind: str, store: EventStore, folder: Path, number: int, known: Undisturbed) -> Outcome:
    """Train the cells of a kind, killed once to three times, and say what is left.

    Args:
        kind: of `KINDS`.
        store: the data.
        folder: to be used for this cell alone.
        number: decides the instants.
        known: the undisturbed run.
    """
    chance = random.Random(number)
    configs = cells(kind, store)
    n_ranks = 2 if kind == "two ranks" else 1
    killed = 0
    for _ in range(chance.choice((1, 1, 2, 3))):
        rank = chance.randrange(n_ranks)
        # the first tenth is the start of the process; kills before its operations on files come below
        instant = Instant(seconds=chance.uniform(0.1, 1.0) * known.seconds, rank=rank)
        if rank == 0:  # the other ranks write nothing
            way = chance.choice(("operation", "operation", "checkpoint", "checkpoint", "seconds"))
            if way == "operation":
                instant = Instant(operation=chance.randrange(known.operations) + 1)
            elif way == "checkpoint":
                left = chance.uniform(0.0, 1.0) * (known.seconds - known.checkpoint)
                instant = Instant(seconds=left, since_checkpoint=True)
        codes = train(configs, store, folder, n_ranks, instant)
        killed += any(code == -signal.SIGKILL for code in codes)
    codes = train(configs, store, folder, n_ranks, None)
    if any(codes):
        return Outcome(killed, 0, (f"the last attempt ended with {codes}",))
    found = left_by(configs, folder)
    faults = [f"{name} differs" for name in known.files if found.get(name) != known.files[name]]
    faults += [f"{name} is left" for name in sorted(set(found) - set(known.files))]
    resumed = {
        attempt["id"]
        for config in configs
        for attempt in RunStore(folder / "runs").read(config.signature).provenance["attempts"]
        if attempt.get("first_step")
    }
    return Outcome(killed, len(resumed), tuple(faults))


def left_by(configs: list[RunConfig], folder: Path) -> dict[str, str]:
    """Return the files below the runs folder with a digest of what must be equal in equal runs."""
    runs, found = folder / "runs", {}
    for path in sorted(path for path in runs.rglob("*") if path.is_file()):
        name = str(path.relative_to(runs))
        found[name] = hashlib.sha256(_lasting(path)).hexdigest()
    for config in configs:
        RunStore(runs).read(config.signature)  # with all its checks
    return found


def _lasting(path: Path) -> bytes:
    """The content of a file without what a clock decides."""
    if path.name == "record.json":
        document = json.loads(path.read_text())
        document["files"].pop("metrics.jsonl")
        kept = {"model": document["files"]}
        kept |= {name: value for name, value in document.items() if name not in _CLOCK}
        return json.dumps(kept, sort_keys=True).encode()
    if path.name == "metrics.jsonl":
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        return json.dumps([line | {"samples_per_second": 0} for line in lines]).encode()
    return path.read_bytes()


def train(
    configs: list[RunConfig], store: EventStore, folder: Path, n_ranks: int, instant: Instant | None
) -> list[int]:
    """Train in forked processes, one of which kills itself at `instant`; return their exit codes."""
    (folder / "meeting.json").unlink(missing_ok=True)
    children = [
        _forked(lambda rank=rank: _train(configs, store, folder, n_ranks, rank, instant))
        for rank in range(n_ranks)
    ]
    return [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]


def _forked(work: Callable[[], None]) -> int:
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        work()
        code = 0
    except BaseException as error:  # noqa: BLE001 - the parent sees the code
        if "rank" not in str(error):
            traceback.print_exc()
    finally:
        os._exit(code)


def _train(
    configs: list[RunConfig],
    store: EventStore,
    folder: Path,
    n_ranks: int,
    rank: int,
    instant: Instant | None,
) -> None:
    run_on_disk._CHECKPOINT_SHARE = 1.0  # so that a kill finds a checkpoint
    own = instant if instant and instant.rank == rank else Instant()
    clock = threading.Timer(own.seconds or 0.0, os.kill, (os.getpid(), signal.SIGKILL))
    clock.daemon = True
    if own.seconds is not None and not own.since_checkpoint:
        clock.start()
    seen = _Seen()
    _watch_operations(str(folder / "runs"), own, seen, clock)
    with ExitStack() as stack:
        ranks = ALONE
        if n_ranks > 1:
            meeting = folder / "meeting.json"
            group = joined_ranks(rank, n_ranks, meeting, "cpu", answer_seconds=_ANSWER_SECONDS)
            ranks = stack.enter_context(group)
        train_runs(
            configs,
            store,
            RunStore(folder / "runs"),
            key=lease_key(configs[0], share_prefix=len(configs) > 1),
            options=RunOptions(checkpoint_seconds=0.01),
            ranks=ranks,
        )
    if instant is None and rank == 0:
        spent = {
            "operations": seen.operations,
            "seconds": time.monotonic() - seen.begin,
            "checkpoint": seen.checkpoint,
        }
        write_json(folder / "spent.json", spent)


@dataclass
class _Seen:
    """What a process has done so far: operations on files of the runs, and seconds to the first checkpoint."""

    begin: float = field(default_factory=time.monotonic)
    operations: int = 0
    checkpoint: float = 0.0


def _watch_operations(runs: str, instant: Instant, seen: _Seen, clock: threading.Timer) -> None:
    """Count operations and kill this process before that of the instant, or start its clock at the first checkpoint."""

    def look(event: str, arguments: tuple[object, ...]) -> None:
        if event not in _FILE_EVENTS or not str(arguments[0]).startswith(runs):
            return
        seen.operations += 1
        if seen.operations == instant.operation:
            os.kill(os.getpid(), signal.SIGKILL)
        if event == "os.rename" and not seen.checkpoint and "/checkpoints/" in str(arguments[1]):
            seen.checkpoint = time.monotonic() - seen.begin
            if instant.since_checkpoint:
                clock.start()

    sys.addaudithook(look)


def rounds(n_kills: int, seed: int, folder: Path) -> Iterator[tuple[str, Outcome]]:
    """Attack all kinds in turn until so many processes were killed; yield what came of each cell."""
    torch.set_num_threads(1)
    (folder / "attacked_class.py").write_text(_OWN)
    sys.path.insert(0, str(folder))
    data = SyntheticConfig(n_train=1200, n_test=400, n_items=200, warmup_events=10)
    store = generate_logs(folder / "log", data)
    known = {kind: _undisturbed(kind, store, folder / "undisturbed") for kind in KINDS}
    killed, number = 0, 0
    while killed < n_kills or number < len(KINDS):
        kind = KINDS[number % len(KINDS)]
        place = folder / "attacked"
        place.mkdir()
        outcome = attack(kind, store, place, 1_000_000 * seed + number, known[kind])
        shutil.rmtree(place)
        killed, number = killed + outcome.kills, number + 1
        yield kind, outcome


def _undisturbed(kind: str, store: EventStore, place: Path) -> Undisturbed:
    place.mkdir()
    configs = cells(kind, store)
    codes = train(configs, store, place, 2 if kind == "two ranks" else 1, None)
    if any(codes):
        raise RuntimeError(f"{kind}: the undisturbed run ended with {codes}")
    spent = json.loads((place / "spent.json").read_text())
    found = Undisturbed(left_by(configs, place), **spent)
    shutil.rmtree(place)
    return found


def main() -> int:
    """Run the attack and write its result; 1 if a cell differs from the undisturbed one."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("-o", "--output", type=Path)
    chosen = parser.parse_args()
    begin, counts, faults = time.monotonic(), Counter(), []
    result: dict[str, object] = {}
    with tempfile.TemporaryDirectory() as folder:
        for kind, outcome in rounds(chosen.kills, chosen.seed, Path(folder)):
            counts[f"kills, {kind}"] += outcome.kills
            counts["kills"] += outcome.kills
            counts["cells"] += 1
            counts["resumes"] += outcome.resumes
            faults += [f"{kind}: {fault}" for fault in outcome.faults]
            sys.stdout.write(f"{counts['kills']:4} {kind}: {outcome}\n")
            sys.stdout.flush()
            seconds = round(time.monotonic() - begin)
            result = {**counts, "faults": faults, "seed": chosen.seed, "seconds": seconds}
            if chosen.output:  # now, so that an attack that is stopped has a result
                write_json(chosen.output, result)
    sys.stdout.write(json.dumps(result, indent=2) + "\n")
    return int(bool(faults))


if __name__ == "__main__":
    sys.exit(main())
