"""Fuzz of every surface: python -m tests.attack.fuzz [--surfaces NAME ...] [--inputs 10000] [--seed 0].

Each input is made from the seed, the surface and its number, so it can be made again: --only NAME NUMBER prints it. A surface goes
on where it stopped, also when the code has changed: a fault that was mended is a case of the corpus, which the tests call again. Faults are
printed, and kept in build/attack-faults/ as such cases.
"""

import argparse
import gc
import importlib
import json
import os
import pickle
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from random import Random

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "support")]

from fuzz_inputs import Change, Surface, Verdict, case_text, contents, judge  # noqa: E402
from fuzz_surfaces import SURFACES  # noqa: E402

RESULT = ROOT / "benchmarks" / "results" / "attack-fuzz.json"
FAULTS = ROOT / "build" / "attack-faults"
SECONDS = 20
MOST_GIB = 2
BATCH = 1000
# once, before the workers are forked
_LOADED = (
    *(
        "scaling.cli.app",
        "scaling.importers",
        "scaling.training.saved_model",
        "models.scoring",
        "duckdb",
    ),
    *(
        "analysis.forecasts",
        "analysis.latency",
        "analysis.study_results",
        "sweeps.planning",
        "sweeps.status",
    ),
)


@dataclass
class Count:
    """What a surface has shown so far; `commits` has the number of inputs for each commit of the code that they reached."""

    inputs: int = 0
    accepted: int = 0
    refused: int = 0
    faults: int = 0
    slowest_seconds: float = 0.0
    peak_memory_gib: float = 0.0
    seed: int = 0
    commits: dict[str, int] = field(default_factory=dict)


def change_of(surface: Surface, seed_files: Mapping[str, bytes], seed: int, number: int) -> Change:
    """Return an input of a surface."""
    return surface.change(Random(f"{seed}/{surface.name}/{number}"), seed_files)


def seed_of(surface: Surface, folder: Path) -> dict[str, bytes]:
    """Write the valid files of a surface into an empty folder, by a process of its own, and return them."""
    kept = folder.with_suffix(".pickle")
    child = os.fork()
    if child == 0:
        code = 1
        os.environ["PATH"] = ""
        try:
            os.chdir(folder)
            surface.build()
            kept.write_bytes(pickle.dumps(contents()))
            code = 0
        finally:
            sys.stderr.flush()
            os._exit(code)
    if os.waitpid(child, 0)[1]:
        raise SystemExit(f"{surface.name}: its valid files cannot be made")
    return pickle.loads(kept.read_bytes())


def judged(
    surface: Surface, seed_files: Mapping[str, bytes], seed: int, numbers: range, folder: Path
) -> Iterator[tuple[int, Verdict, float]]:
    """Yield the outcome of each input; a worker that hangs or dies is a fault of its input. The last one has the memory."""
    begin = numbers.start
    while begin < numbers.stop:
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(reader)
            _work(surface, seed_files, seed, range(begin, numbers.stop), folder, writer)
        os.close(writer)
        with os.fdopen(reader) as lines:
            for line in lines:
                number, kind, fault, seconds = json.loads(line)
                if number < 0:
                    raise SystemExit(f"{surface.name}: the valid files: {fault}")
                begin = number + 1
                yield number, Verdict(kind, fault), seconds
        _, status, used = os.wait4(child, 0)
        yield -1, Verdict("memory"), used.ru_maxrss / 2**20
        if status and begin < numbers.stop:
            signal_number = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
            hung = signal_number == signal.SIGALRM
            fault = (
                f"over {SECONDS} s"
                if hung
                else f"the process ended by signal {signal_number}, status {status}"
            )
            yield begin, Verdict("fault", fault), float(SECONDS if hung else 0)
            begin += 1
            for name in contents():
                Path(name).unlink()
            shutil.rmtree("out", ignore_errors=True)
            for name, content in seed_files.items():
                Path(name).write_bytes(content)


def _work(
    surface: Surface,
    seed_files: Mapping[str, bytes],
    seed: int,
    numbers: range,
    folder: Path,
    writer: int,
) -> None:
    os.chdir(folder)
    # no SLURM is asked, and what is noted on the node stays here
    os.environ |= {"PATH": "", "TMPDIR": str(folder.parent)}
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    # more than an input may have in memory, as DuckDB reserves addresses that it does not use
    most = pages * resource.getpagesize() + 4 * MOST_GIB * 2**30
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    sink = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1):
        os.dup2(sink, descriptor)
    # what the first call loads is no time of an input
    valid = judge(surface, seed_files, Change())
    if valid.kind == "fault":
        lines = os.fdopen(writer, "w")
        lines.write(json.dumps([-1, "invalid", valid.fault, 0.0]) + "\n")
        lines.flush()
        os._exit(0)
    gc.freeze()  # what is loaded is not searched again after each input
    with os.fdopen(writer, "w") as lines:
        for number in numbers:
            change = change_of(surface, seed_files, seed, number)
            signal.alarm(SECONDS)
            begin = time.monotonic()
            verdict = judge(surface, seed_files, change)
            seconds = time.monotonic() - begin
            signal.alarm(0)
            used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
            if used > MOST_GIB:
                verdict = Verdict("fault", f"{used:.1f} GiB of memory")
            lines.write(json.dumps([number, verdict.kind, verdict.fault, seconds]) + "\n")
            lines.flush()
            if used > MOST_GIB:
                break  # the next input begins in a process that has not taken it
    os._exit(0)


def _commit() -> str:
    def git(*words: str) -> str:
        return subprocess.run(
            ["git", "-C", str(ROOT), *words], capture_output=True, text=True, check=False
        ).stdout.strip()

    # the code that the inputs reach
    dirty = git("status", "--porcelain", "--", "models", "scaling", "sweeps", "analysis")
    return git("log", "-1", "--format=%h", "--", "models", "scaling", "sweeps", "analysis") + (
        "-dirty" if dirty else ""
    )


def attack(surface: Surface, n_inputs: int, seed: int, result: Path, *, anew: bool) -> int:
    """Run the inputs of a surface that are not done yet; return the number of faults."""
    whole = json.loads(result.read_text()) if result.exists() else {}
    count, commit = Count(**whole.get(surface.name, {"seed": seed})), _commit()
    if commit.endswith("dirty") and result == RESULT:
        raise SystemExit(
            "the code has changes that are not committed: commit them, or name another --result"
        )
    if anew or count.seed != seed:
        count = Count(seed=seed)
    folder = Path(tempfile.mkdtemp(prefix="fuzz-")) / "work"
    folder.mkdir()
    seed_files = seed_of(surface, folder)
    os.chdir(folder)
    shown: Counter[str] = Counter()
    begin = time.monotonic()
    while count.inputs < n_inputs:
        numbers = range(count.inputs, min(n_inputs, count.inputs + BATCH))
        for number, verdict, measured in judged(surface, seed_files, seed, numbers, folder):
            if verdict.kind == "memory":
                count.peak_memory_gib = round(max(count.peak_memory_gib, measured), 3)
                continue
            count.inputs += 1
            count.commits[commit] = count.commits.get(commit, 0) + 1
            count.accepted += verdict.kind == "accepted"
            count.refused += verdict.kind == "refused"
            count.faults += verdict.kind == "fault"
            count.slowest_seconds = round(max(count.slowest_seconds, measured), 2)
            kind = verdict.fault.rpartition("(")[2] or verdict.fault
            shown[kind] += verdict.kind == "fault"
            if verdict.kind == "fault" and shown[kind] <= 3:
                print(f"{surface.name} {number}: {verdict.fault}", flush=True)
                FAULTS.mkdir(parents=True, exist_ok=True)
                case = case_text(
                    surface.name,
                    change_of(surface, seed_files, seed, number),
                    "refused",
                    verdict.fault,
                )
                (FAULTS / f"{surface.name}-{number}.json").write_text(case)
        whole = json.loads(result.read_text()) if result.exists() else {}
        whole[surface.name] = asdict(count)
        result.write_text(json.dumps(dict(sorted(whole.items())), indent=1) + "\n")
    seconds = time.monotonic() - begin
    print(f"{surface.name}: {count} in {seconds:.0f} s", flush=True)
    os.chdir(ROOT)
    shutil.rmtree(folder.parent, ignore_errors=True)
    return count.faults


def main() -> None:
    """Attack the surfaces one after the other."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--surfaces", nargs="*", default=list(SURFACES), choices=list(SURFACES), metavar="NAME"
    )
    parser.add_argument("--inputs", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--anew", action="store_true", help="do not go on where a surface stopped")
    parser.add_argument("--result", type=Path, default=RESULT)
    parser.add_argument(
        "--only",
        nargs=2,
        metavar=("NAME", "NUMBER"),
        help="print one input as a case of the corpus",
    )
    options = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    result = options.result.resolve()
    if options.only:
        name, number = options.only
        folder = Path(tempfile.mkdtemp()) / "work"
        folder.mkdir()
        seed_files = seed_of(SURFACES[name], folder)
        change = change_of(SURFACES[name], seed_files, options.seed, int(number))
        print(case_text(name, change, "refused"))
        os.chdir(folder)
        print(judge(SURFACES[name], seed_files, change), file=sys.stderr)
        return
    for module in _LOADED:
        importlib.import_module(module)
    faults = sum(
        attack(SURFACES[name], options.inputs, options.seed, result, anew=options.anew)
        for name in options.surfaces
    )
    sys.exit(1 if faults else 0)


if __name__ == "__main__":
    main()
