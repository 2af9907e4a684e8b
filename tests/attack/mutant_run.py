"""Break one promise at a time in a copy of the tree, and see which tests notice; the list is `mutants.toml`.

    make attack-mutants                                          # every mutant that is not known to be killed
    python tests/attack/mutant_run.py --only NAME ...            # these alone
    python tests/attack/mutant_run.py --named                    # without the wider suite, for writing tests

A mutant is tried with its named tests; if these pass, with the fast and then the slow tests of the folders that import its
module, for at most ten minutes. `benchmarks/results/attack-mutants.json` keeps what came of each; a mutant stays killed
until it, its module or a named test file changes. Exit code 1: a mutant survived or does not apply.
"""

import argparse
import ast
import gc
import hashlib
import importlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NoReturn

import pytest

ROOT = Path(__file__).parents[2]
MUTANTS = Path(__file__).with_name("mutants.toml")
RESULT = ROOT / "benchmarks" / "results" / "attack-mutants.json"
PACKAGES = ("models", "scaling", "sweeps", "analysis")
# The whole tree is measured in these folders, or the tests need what a plain machine lacks.
_LEFT_OUT = ("attack", "house", "cluster", "mirrors", "golden", "support")
_NAMED_SECONDS, _WIDER_SECONDS = 240, 600
_OPTIONS = ("-q", "-x", "-p", "no:cacheprovider", "--tb=no")
_LOADED = ("torch._dynamo", "scipy.optimize", "scipy.stats", "pandas", "pydantic")
_FAST = "not slow and not gpu and not slurm and not mirrors and not browser"
_SLOW = "slow and not gpu and not slurm and not mirrors and not browser"


@dataclass(frozen=True)
class Mutant:
    name: str
    file: str
    old: str
    new: str
    promise: str
    tests: tuple[str, ...]

    def applied(self, text: str) -> str | None:
        """The module's text with the fault; None unless the old text occurs exactly once."""
        return text.replace(self.old, self.new) if text.count(self.old) == 1 else None


def read_mutants() -> list[Mutant]:
    document = tomllib.loads(MUTANTS.read_text(encoding="utf-8"))
    return [Mutant(**{**entry, "tests": tuple(entry["tests"])}) for entry in document["mutant"]]


class Copy:
    """A copy of the tracked files in which one fault at a time is put."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        listed = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=ROOT, check=True, capture_output=True, text=True,
        )  # fmt: skip
        for name in filter(None, listed.stdout.split("\0")):
            if (ROOT / name).is_file():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, folder / name)

    def write(self, file: str, text: str) -> None:
        """Replace a module; its compiled file may have the same size and second."""
        path = self.folder / file
        path.write_text(text, encoding="utf-8")
        for compiled in (path.parent / "__pycache__").glob(f"{path.stem}.*.pyc"):
            compiled.unlink()

    def passes(self, tests: Sequence[str], seconds: float, marks: str) -> tuple[bool | None, str]:
        """Whether the tests pass, and which is the first that does not; None: not in time."""
        with tempfile.TemporaryFile("w+") as output:
            # a fork has torch and the others loaded, which takes longer than most tests
            child = os.fork()
            if not child:
                self._run([*_OPTIONS, "-m", marks, *tests], output.fileno())
            code, end = None, time.monotonic() + seconds
            while code is None and time.monotonic() < end:
                ended, status = os.waitpid(child, os.WNOHANG)
                code = os.waitstatus_to_exitcode(status) if ended else None
                time.sleep(0.0 if ended else 0.02)
            with suppress(ProcessLookupError):  # what its tests have started
                os.killpg(child, signal.SIGKILL)
            if code is None:
                os.waitpid(child, 0)
                return None, ""
            output.seek(0)
            text = output.read()
        if code in (0, 5):  # 5: none has these marks
            return True, ""
        found = re.search(r"^(?:FAILED|ERROR) (.+?)(?: - .*)?$", text, re.MULTILINE)
        return False, found[1] if found else (text.strip().splitlines() or [f"exit code {code}"])[
            -1
        ][:200]

    def _run(self, arguments: list[str], output: int) -> NoReturn:
        os.setsid()
        os.chdir(self.folder)
        for stream in (1, 2):
            os.dup2(output, stream)
        # also for the processes that tests start
        os.environ["PYTHONPATH"] = sys.path[0] = str(self.folder)
        code = 1
        try:
            code = int(pytest.main(arguments))
        finally:
            sys.stdout.flush()
            os._exit(code)


def importing_files(file: str) -> list[str]:
    """Test files in the folders of which one imports the module, and then of those that import the room that may hand it on."""
    module = ".".join(Path(file).with_suffix("").parts)
    found: dict[Path, bool] = {}
    for path in (ROOT / "tests").glob("*/test_*.py"):
        if path.parent.name not in _LEFT_OUT:
            imported = _imports(path)
            if module in imported or module.rpartition(".")[0] in imported - set(PACKAGES):
                found[path.parent] = found.get(path.parent, False) or module in imported
    rooms = module.split(".")
    folders = sorted(found, key=lambda f: (not found[f], f.name not in rooms, f))
    return [
        str(f.relative_to(ROOT)) for folder in folders for f in sorted(folder.glob("test_*.py"))
    ]


def _imports(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return found


def identity(mutant: Mutant) -> str:
    """Digest of all that a result depends on."""
    files = {mutant.file, *(test.partition("::")[0] for test in mutant.tests)}
    texts = [(ROOT / file).read_text(encoding="utf-8") for file in sorted(files)]
    return hashlib.sha256(json.dumps([asdict(mutant), texts]).encode()).hexdigest()[:16]


def try_mutant(copy: Copy, mutant: Mutant, *, wider: bool) -> dict[str, object]:
    """Put the fault in, run the tests, take it out."""
    sound = (copy.folder / mutant.file).read_text(encoding="utf-8")
    broken = mutant.applied(sound)
    if broken is None:
        return {"outcome": "not applied", "by": "", "seconds": 0.0}
    begin, marks = time.monotonic(), f"({_FAST}) or ({_SLOW})"
    copy.write(mutant.file, broken)
    try:
        good, by = copy.passes(list(mutant.tests), _NAMED_SECONDS, marks)
        stage = "named tests"
        if good is None:
            good, by = False, "they do not end"
        files = importing_files(mutant.file) if good and wider else []
        for stage_of, one in (("fast tests", _FAST), ("slow tests", _SLOW)) if files else ():
            stage = stage_of
            good, by = _wider(copy, mutant, files, one, sound, broken)
            if not good:
                break
    finally:
        copy.write(mutant.file, sound)
    outcome = "killed" if good is False else "survived"
    found = {"outcome": outcome, "by": by, "seconds": round(time.monotonic() - begin, 1)}
    return found | ({"stage": stage} if outcome == "killed" else {})


def _wider(
    copy: Copy, mutant: Mutant, files: list[str], marks: str, sound: str, broken: str
) -> tuple[bool | None, str]:
    """As `Copy.passes`, but a test that fails without the fault as well does not count."""
    end, left_out = time.monotonic() + _WIDER_SECONDS, []
    while True:
        tests = [*files, *(f"--deselect={test}" for test in left_out)]
        good, by = copy.passes(tests, max(1.0, end - time.monotonic()), marks)
        if good is not False:
            return good, by
        copy.write(mutant.file, sound)
        fails_anyway = copy.passes([by], _NAMED_SECONDS, marks)[0] is not True
        copy.write(mutant.file, broken)
        if not fails_anyway:
            return False, by
        left_out.append(by)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--only", nargs="+", metavar="NAME", help="mutants to try, again if need be"
    )
    parser.add_argument("--named", action="store_true", help="do not run the wider suite")
    asked = parser.parse_args()
    os.environ |= {"OMP_NUM_THREADS": "1"}
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    for name in _LOADED:
        importlib.import_module(name)
    gc.freeze()
    mutants = read_mutants()
    known = json.loads(RESULT.read_text())["mutants"] if RESULT.exists() else {}
    marks = {mutant.name: identity(mutant) for mutant in mutants}
    known = {
        name: one
        for name, one in known.items()
        if one["identity"] == marks.get(name) and one["outcome"] == "killed"
    }
    wanted = [
        mutant
        for mutant in mutants
        if (mutant.name in asked.only if asked.only else mutant.name not in known)
    ]
    with tempfile.TemporaryDirectory() as folder:
        copy = Copy(Path(folder))
        tests = sorted({test for mutant in wanted for test in mutant.tests})
        if tests:
            good, by = copy.passes(tests, 3600, f"({_FAST}) or ({_SLOW})")
            if not good:
                print(f"error: {by or 'the named tests'} fails without any fault", file=sys.stderr)
                return 2
        for number, mutant in enumerate(wanted, 1):
            found = try_mutant(copy, mutant, wider=not asked.named)
            print(f"{number}/{len(wanted)} {mutant.name}: {found['outcome']} {found['by']} ({found['seconds']} s)", flush=True)  # fmt: skip
            known[mutant.name] = {
                "identity": marks[mutant.name],
                "promise": mutant.promise,
                **found,
            }
            _keep(known, mutants)
    lost = [name for name, one in known.items() if one["outcome"] != "killed"]
    print(
        f"{len(known) - len(lost)} of {len(mutants)} killed{': not ' if lost else ''}{', '.join(lost)}"
    )
    return int(bool(lost))


def _keep(known: dict[str, dict[str, object]], mutants: list[Mutant]) -> None:
    order = {mutant.name: place for place, mutant in enumerate(mutants)}
    known = dict(sorted(known.items(), key=lambda pair: order[pair[0]]))
    outcomes = [one["outcome"] for one in known.values()]
    counts = {name: outcomes.count(name) for name in ("killed", "survived", "not applied")}
    temporary = RESULT.with_suffix(".tmp")
    temporary.write_text(json.dumps({"counts": counts, "mutants": known}, indent=1) + "\n")
    temporary.replace(RESULT)


if __name__ == "__main__":
    sys.exit(main())
