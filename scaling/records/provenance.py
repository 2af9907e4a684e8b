"""Where a run comes from: code, package versions, device and command, as far as they are known."""

import ast
import hashlib
import os
import platform
import shlex
import subprocess
import sys
from contextlib import suppress
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from models.kinds import syntax_text
from scaling.documents import read_json

__all__ = [
    "COMMAND_VARIABLE",
    "code_version",
    "describe_attempt",
    "describe_environment",
    "read_code_version",
    "trained_sources",
    "user_command",
]


# A driver passes its own command line to its workers in this variable.
COMMAND_VARIABLE = "SCALING_COMMAND"
# All that a training run imports; tests/records/test_provenance.py checks this.
_TRAINED = (
    "models/*.py",
    *(f"models/{room}/*.py" for room in ("attention", "baselines", "kinds")),
    *(
        f"scaling/{name}.py"
        for name in (
            "arrays",
            "atomic_files",
            "documents",
            "errors",
            "metrics",
            "ranking_within_users",
            "strict_values",
        )
    ),
    *(f"scaling/{room}/*.py" for room in ("batches", "records", "store", "study", "training")),
)
_PACKAGES = ("ctr-scaling", "torch", "numpy", "scipy", "pandas", "submitit")


@cache
def code_version() -> dict[str, Any]:
    """Return `read_code_version` of the code of this process, read once at the first call."""
    return read_code_version(Path(__file__).resolve().parents[2])


def read_code_version(folder: Path) -> dict[str, Any]:
    """Return the version of the code in `folder`: `code`, `git_commit`, `git_dirty` and `git_diff`.

    `code` is a hash of the sources that can change a run's numbers. The others are read from git if `folder`
    is a checkout, or from the `provenance.json` of a snapshot; otherwise they are None. `git_diff` is a hash
    of the uncommitted changes, None if there are none.
    """
    known: dict[str, Any] = {"code": _hash_sources(folder)}
    # an installed copy may lie inside the repository of another project
    if _git(folder, "rev-parse", "--show-toplevel").decode() != str(folder):
        return {**known, **_from_snapshot(folder)}
    diff = _git(folder, "diff", "--no-ext-diff", "HEAD")
    return {
        **known,
        "git_commit": _git(folder, "rev-parse", "HEAD").decode(),
        "git_dirty": bool(diff),
        "git_diff": hashlib.sha256(diff).hexdigest()[:16] if diff else None,
    }


def describe_attempt() -> dict[str, Any]:
    """Return the host, process, job and code of this attempt; `slurm_job_id` has the form that submitit uses.

    `submission` is the name of the job's folder: ids of jobs are reused.
    """
    array, task = (os.environ.get(f"SLURM_ARRAY_{name}_ID") for name in ("JOB", "TASK"))
    restarts = os.environ.get("SLURM_RESTART_COUNT")
    folder = os.environ.get("SUBMITIT_FOLDER")
    return {
        "host": platform.node(),
        "pid": os.getpid(),
        "slurm_job_id": f"{array}_{task}" if array and task else os.environ.get("SLURM_JOB_ID"),
        "slurm_restart_count": int(restarts) if restarts else 0,
        "submission": Path(folder).name if folder else None,
        **code_version(),
        "versions": {name: _version(name) for name in ("torch", "numpy")},
    }


def user_command() -> str:
    """Return the command that the user gave, also within the jobs that it started."""
    name = Path(sys.argv[0]).name
    own = shlex.join(["scaling" if name == "__main__.py" else name, *sys.argv[1:]])
    return os.environ.get(COMMAND_VARIABLE, own)


def describe_environment(device: str) -> dict[str, Any]:
    """Return the versions, platform, device and the user's command, as a record stores them."""
    return {
        "versions": {name: _version(name) for name in _PACKAGES},
        "python": platform.python_version(),
        "platform": platform.platform(),
        "device": device,
        "command": user_command(),
    }


def _from_snapshot(folder: Path) -> dict[str, Any]:
    document: dict[str, Any] = {}
    with suppress(OSError, ValueError):
        document = read_json(folder / "provenance.json")
    return {name: document.get(name) for name in ("git_commit", "git_dirty", "git_diff")}


def _hash_sources(folder: Path) -> str:
    """Hash the syntax trees of the sources that can change a run's numbers, without comments and docstrings."""
    digest = hashlib.sha256()
    for path in trained_sources(folder):
        tree = ast.parse(path.read_bytes())
        digest.update(f"{path.relative_to(folder)}\0{syntax_text(tree)}\0".encode())
    return digest.hexdigest()[:16]


def trained_sources(folder: Path) -> list[Path]:
    """Return the sources below `folder` that can change a run's numbers, sorted."""
    found = [path for part in _TRAINED for path in folder.glob(part)]
    return sorted(path for path in found if path.name != "__init__.py")


def _git(folder: Path, *arguments: str) -> bytes:
    try:
        result = subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return b""
    return result.stdout.strip()


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
