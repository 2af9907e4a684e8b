"""Part of the fast tests, and a small study from end to end, on other platforms than a developer's own.

    python tests/attack/platform_matrix.py [--only NAME ...] [--python EXECUTABLE [--torch]] [--uv EXECUTABLE]    # or: make attack-platform
    python tests/attack/platform_matrix.py --without-torch --uv EXECUTABLE    # or: make resolver-test

Each condition has a copy of the checkout's tracked files. In it the chosen tests must pass, and the study must end with the
records of the plain condition, bit for bit. A condition that this machine cannot give is `unmeasured`, with the reason.
Writes benchmarks/results/attack-platform.json; exits with 1 if a condition fails. Half an hour on one core.

`--python` is the newest Python there is, and `--uv` the resolver that makes environments for it and for the lowest
and latest versions that pyproject.toml allows. `--without-torch` takes these two alone, with the tests that need no torch,
and writes no result. Other users need root.
"""

import argparse
import contextlib
import datetime as dt
import json
import locale
import math
import os
import platform
import pwd
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results" / "attack-platform.json"

# about half a minute; at least one of each package: files and locks, text in and out, processes, plots, arithmetic
TORCH_FREE = [
    "tests/records/test_run_store.py",
    "tests/records/test_atomic_files.py",
    "tests/store/test_event_store.py",
    "tests/store/test_value_lists.py",
    "tests/table/test_table.py",
    "tests/table/test_csv_reader.py",
    "tests/table/test_exported_files.py",
    "tests/study/test_goal_settings.py",
    "tests/study/test_rate_law.py",
    "tests/planning/test_grid.py",
    "tests/queue/test_submissions.py",
    "tests/queue/test_scheduler.py",
    "tests/gain/test_size_gains.py",
    "tests/forecasts/test_forecasts.py",
    "tests/report/test_answer.py",
    "tests/cli/test_studies_verb.py",
    "tests/audit/test_summary.py",
]
WITH_TORCH = [
    *TORCH_FREE,
    "tests/planning/test_plan.py",
    "tests/suan/test_suan.py",
    "tests/batches/test_gather.py",
    "tests/training/test_checkpoint.py",
    "tests/training/test_saved_model.py",
]
STUDY = """\
[study]
name = "small"
[data]
path = "data/small"
[data.generate]
n_train = 1200
n_test = 400
n_items = 200
warmup_events = 10
[grid]
grade = ["SUAN-0", "SUAN-1"]
n_samples = [160, 320, 640]
"""


# of sums in float64 of a few hundred terms
ROUNDING = 1e-12


class Unmeasured(Exception):
    """This machine cannot give the condition."""


@dataclass
class Condition:
    """A platform: where the checkout lies, and how its processes run.

    Attributes:
        folder: name of the folder that holds the copy of the checkout.
        environment: variables that are set.
        umask: of all processes.
        user: who runs them; empty for the caller.
        read_only: whether nobody may write into the checkout.
        links: whether the folders of runs and data are symbolic links.
        packages: "tested"; or of an environment of its own: "lowest", "latest", or "newest" for the newest Python.
    """

    folder: str = "checkout"
    environment: dict = field(default_factory=dict)
    umask: int = 0o022
    user: str = ""
    read_only: bool = False
    links: bool = False
    packages: str = "tested"


CONDITIONS = {
    "plain": Condition(),
    "path with spaces and Unicode": Condition(folder="a checkout, größer (試験)"),
    "umask 077": Condition(umask=0o077),
    "umask 002": Condition(umask=0o002),
    "LANG=C": Condition(environment={"LANG": "C", "LC_ALL": "C"}),
    "LANG=C, PYTHONUTF8=0": Condition(
        environment={"LANG": "C", "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    ),
    "PYTHONUTF8=0": Condition(environment={"PYTHONUTF8": "0"}),
    "de_DE.UTF-8": Condition(environment={"LANG": "de_DE.UTF-8", "LC_ALL": "de_DE.UTF-8"}),
    "TZ=Asia/Kathmandu": Condition(environment={"TZ": "Asia/Kathmandu"}),
    "another user, read-only checkout": Condition(user="nobody", read_only=True),
    "symbolic links, copied and moved runs": Condition(links=True),
    "lowest dependencies": Condition(packages="lowest"),
    "latest dependencies": Condition(packages="latest"),
    "newest Python": Condition(packages="newest"),
}


class Platform:
    """A condition on this machine: its checkout, interpreter and processes."""

    def __init__(self, condition, work, arguments):
        self.condition, self.work, self.arguments = condition, work, arguments
        self.checkout, self.home = work / condition.folder, work / "home"
        name = condition.environment.get("LC_ALL")
        if name not in (None, "C"):
            try:
                locale.setlocale(locale.LC_ALL, name)
                locale.setlocale(locale.LC_ALL, "")
            except locale.Error:
                raise Unmeasured(f"the locale {name} is not installed") from None
        self.identity = {}
        if condition.user:
            if os.geteuid():
                raise Unmeasured("only root can run tests as another user")
            user = pwd.getpwnam(condition.user)
            self.identity = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
        self.environment = os.environ | {
            "HOME": str(self.home),
            "TMPDIR": str(work / "tmp"),
            "OMP_NUM_THREADS": "1",
            "MPLCONFIGDIR": str(self.home),
            "SCALING_RUNS": str(work / "runs"),
            **condition.environment,
        }
        self.has_torch, path = True, [str(self.checkout)]
        self._copy_checkout()
        self.python = sys.executable
        if condition.packages != "tested":
            self.python = self._environment()
        elif condition.user and not self._may_run(self.python):
            # the interpreter lies where only its owner may look, as those in a home folder do
            self.python = self._copied_interpreter()
            self.environment["LD_LIBRARY_PATH"] = str(work / "python" / "lib")
            path.append(str(Path(metadata.distribution("numpy").locate_file("")).resolve()))
        self.environment["PYTHONPATH"] = os.pathsep.join(path)

    def _copy_checkout(self):
        listed = subprocess.run(
            ["git", "-C", ROOT, "ls-files", "-z"], capture_output=True, check=True
        )
        for name in filter(None, listed.stdout.decode().split("\0")):
            if (ROOT / name).is_file():
                target = self.checkout / name
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / name, target)
        for name in ("home", "tmp", "study"):
            (self.work / name).mkdir()
        if self.condition.user:
            for path in [self.work, *self.work.rglob("*")]:
                os.chown(path, self.identity["user"], self.identity["group"])
        if self.condition.read_only:
            packages = [
                self.checkout / name for name in ("analysis", "models", "scaling", "sweeps")
            ]
            subprocess.run([sys.executable, "-m", "compileall", "-q", *packages], check=True)
            for path in [*self.checkout.rglob("*"), self.checkout]:
                path.chmod(0o555 if path.is_dir() else 0o444)

    def _may_run(self, python):
        try:
            return not self.run([python, "-c", ""]).returncode
        except PermissionError:
            return False

    def _copied_interpreter(self):
        place = self.work / "python"
        unread = shutil.ignore_patterns("site-packages", "test", "__pycache__", "*.a", "share")
        shutil.copytree(sys.base_prefix, place, ignore=unread, symlinks=True)
        return str(place / "bin" / f"python3.{sys.version_info.minor}")

    def _environment(self):
        """A new environment by a resolver; its Python."""
        packages = self.condition.packages
        uv = shutil.which(self.arguments.uv or "uv")
        if not uv:
            raise Unmeasured("there is no uv; name one with --uv")
        uv = str(Path(uv).absolute())
        if packages == "newest" and not self.arguments.python:
            raise Unmeasured("no Python was named with --python")
        base = self.arguments.python if packages == "newest" else sys.executable
        python = self.work / "env" / "bin" / "python"
        self.has_torch = not self.arguments.without_torch
        if packages == "newest":
            # a torch for another Python than this one is a download of gigabytes
            self.has_torch = self.arguments.torch
        asked = ["--group", f"{self.checkout / 'pyproject.toml'}:test"]
        asked += [f"{self.checkout}{'[train]' if self.has_torch else ''}"]
        if packages == "newest":
            asked += ["-c", str(self.checkout / "constraints.txt")]
        elif self.has_torch:
            asked += [f"torch=={metadata.version('torch')}"]
        if packages == "lowest":
            asked += ["--resolution", "lowest-direct"]
        for command in (
            [uv, "venv", "-q", "--python", base, self.work / "env"],
            [uv, "pip", "install", "-q", "--python", python, *asked],
        ):
            made = self.run(command)
            if made.returncode:
                raise Unmeasured(f"uv: {made.stderr.strip().splitlines()[-1]}")
        # the tests are those of the checkout, and so is the project
        self.run([uv, "pip", "uninstall", "-q", "--python", python, "ctr-scaling"])
        return str(python)

    def run(self, command, folder=None):
        return subprocess.run(
            command, cwd=folder or self.checkout, env=self.environment, umask=self.condition.umask,
            capture_output=True, text=True, encoding="utf-8", errors="replace", check=False, **self.identity,
        )  # fmt: skip

    def scaling(self, *arguments):
        done = self.run([self.python, "-m", "scaling", *arguments], self.work / "study")
        if done.returncode:
            last = (done.stderr.strip() or done.stdout.strip()).splitlines()[-1:]
            raise AssertionError(f"scaling {' '.join(arguments)}: exit {done.returncode}: {last}")
        return done.stdout

    def tests(self):
        chosen = WITH_TORCH if self.has_torch else TORCH_FREE
        command = [self.python, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
        if self.condition.packages in ("lowest", "latest"):
            # old versions warn of the new ones beside them, and new ones of what is to come
            command += ["-W", "ignore::DeprecationWarning", "-W", "ignore::FutureWarning"]
        done = self.run([*command, "--basetemp", self.work / "tmp" / "pytest", *chosen])
        lines = done.stdout.splitlines() or done.stderr.splitlines()
        failed = [
            line.partition(" - ")[0] for line in lines if line.startswith(("FAILED", "ERROR"))
        ]
        if done.returncode and not failed:
            failed = [(done.stderr or done.stdout).strip()[-400:]]
        summary = next((line for line in reversed(lines) if " passed" in line), "")
        return summary, failed

    def study(self):
        """Train, report and look again; return what must not depend on the platform, by cell."""
        (self.work / "study" / "study.toml").write_text(STUDY, encoding="utf-8")
        if self.condition.links:
            for link in (self.work / "runs", self.work / "study" / "data"):
                real = self.work / f"real {link.name}"
                real.mkdir()
                link.symlink_to(real, target_is_directory=True)
        if self.condition.user:
            os.chown(
                self.work / "study" / "study.toml", *(self.identity[k] for k in ("user", "group"))
            )
        self.scaling("run", "study.toml", "--jobs", "1")
        runs = self.work / "runs" / "small"
        found = records(runs)
        if self.condition.links:
            self._elsewhere(runs, found)
        self.scaling("report", "study.toml")
        return found

    def _elsewhere(self, runs, found):
        """A copied and a moved folder of runs hold the same finished runs, of which none is trained again."""
        table = self.scaling("table", "study.toml")
        copied, moved = self.work / "copied", self.work / "moved elsewhere"
        shutil.copytree(runs.parent, copied)
        for how, place in (("copied", copied), ("moved", moved)):
            if how == "moved":
                copied.rename(moved)
            before = {path: path.stat().st_mtime_ns for path in place.rglob("record.json")}
            self.scaling("status", "study.toml", "--check", "--runs", str(place))
            self.scaling("verify", str(place))
            self.scaling("run", "study.toml", "--jobs", "1", "--runs", str(place))
            assert self.scaling("table", "study.toml", "--runs", str(place)) == table, (
                f"{how} runs: another table"
            )
            assert records(place / "small") == found, f"{how} runs: other records"
            after = {path: path.stat().st_mtime_ns for path in place.rglob("record.json")}
            assert before == after, f"{how} runs: a record was written again"


def records(runs):
    """Of each run, what it was and what came out."""
    found = {}
    for path in sorted(runs.glob("*/record.json")):
        record = json.loads(path.read_text(encoding="utf-8"))
        found[path.parent.name] = [
            record["metrics"],
            record["train_loss"],
            record["n_params"],
            record["flops"],
        ]
    return found


def nearly_equal(found, wanted):
    """Whether the same runs have the same numbers but for rounding."""
    return found.keys() == wanted.keys() and all(
        math.isclose(one, other, rel_tol=ROUNDING, abs_tol=ROUNDING)
        for run in found
        for one, other in zip(numbers(found[run]), numbers(wanted[run]), strict=True)
    )


def numbers(record):
    metrics, *rest = record
    return [*(metrics[name] for name in sorted(metrics)), *rest]


def measure(name, condition, arguments, plain):
    """Return the result of a condition; the records of the plain one are those that all must reach."""
    started = time.monotonic()
    # short and plain, whatever the condition's own folder is
    work = Path(tempfile.mkdtemp(prefix="platform-"))
    work.chmod(0o755)
    try:
        place = Platform(condition, work, arguments)
        summary, failed = place.tests()
        result = {"tests": summary.strip("= "), "failed": failed}
        if place.has_torch:
            try:
                found = place.study()
                plain.setdefault("records", found)
                same = found == plain["records"]
                result["study"] = "records equal those of plain" if same else "other records"
                # other versions of numpy sum logarithms in another order
                if not same and condition.packages != "tested":
                    same = nearly_equal(found, plain["records"])
                    if same:
                        result["study"] = f"records equal those of plain within {ROUNDING:g}"
                if not same or len(found) != 6:
                    failed.append(f"study: {len(found)} records, {result['study']}")
            except AssertionError as error:
                failed.append(str(error))
        else:
            result["study"] = "unmeasured: no torch"
        result["passed"] = not failed
        if condition.packages != "tested":
            wanted = ("numpy", "scipy", "pandas", "matplotlib", "pydantic", "duckdb", "torch")
            code = "import json, sys; from importlib import metadata as m; print(json.dumps({'python': sys.version.split()[0]} | {d.name: d.version for d in m.distributions() if d.name in sys.argv}))"
            result["versions"] = json.loads(place.run([place.python, "-c", code, *wanted]).stdout)
    except Unmeasured as error:
        result = {"passed": None, "unmeasured": str(error)}
    finally:
        if not arguments.keep:
            with contextlib.suppress(OSError):
                shutil.rmtree(work)
    return result | {"seconds": round(time.monotonic() - started)}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=list(CONDITIONS), default=list(CONDITIONS))
    parser.add_argument("--python", help="the newest Python")
    parser.add_argument(
        "--torch", action="store_true", help="with torch for the newest Python, some gigabytes"
    )
    parser.add_argument("--uv", help="the resolver")
    parser.add_argument("--keep", action="store_true", help="leave the folders of the conditions")
    parser.add_argument(
        "--without-torch", action="store_true", help="lowest and latest dependencies without torch"
    )
    arguments = parser.parse_args()
    if arguments.without_torch:
        results = [
            measure(name, CONDITIONS[name], arguments, {})
            for name in ("lowest dependencies", "latest dependencies")
        ]
        print(*results, sep="\n")
        return 0 if all(result["passed"] for result in results) else 1
    kept = json.loads(RESULTS.read_text("utf-8"))["conditions"] if RESULTS.exists() else {}
    plain, failed = {}, False
    for name in dict.fromkeys(["plain", *arguments.only]):
        result = measure(name, CONDITIONS[name], arguments, plain)
        kept[name] = result
        failed |= result["passed"] is False
        print(f"{name}: {result}", flush=True)
        document = {
            "date": dt.date.today().isoformat(),
            "command": "make attack-platform",
            "python": platform.python_version(),
            "conditions": {name: kept[name] for name in CONDITIONS if name in kept},
        }
        RESULTS.write_text(
            json.dumps(document, indent=2, ensure_ascii=False) + "\n", encoding="utf-8"
        )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
