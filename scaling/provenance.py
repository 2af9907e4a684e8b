"""Where a run came from: code, versions, device and command, as far as they can be known."""

import os
import platform
import shlex
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

__all__ = ["COMMAND_VARIABLE", "code_version", "describe_environment"]

# A driver tells its workers the command line that started it.
COMMAND_VARIABLE = "SCALING_COMMAND"
_PACKAGES = ("ctr-scaling", "torch", "numpy", "scipy", "pandas", "submitit")


def code_version() -> dict[str, Any]:
    """Return the git commit of the code and whether it was changed since; None outside its checkout."""
    folder = Path(__file__).resolve().parent.parent
    # an installed copy may lie inside somebody else's repository
    if _git(folder, "rev-parse", "--show-toplevel") != str(folder):
        return {"git_commit": None, "git_dirty": None}
    changes = _git(folder, "status", "--porcelain", "--untracked-files=no")
    return {"git_commit": _git(folder, "rev-parse", "HEAD"), "git_dirty": bool(changes)}


def describe_environment(device: str) -> dict[str, Any]:
    """Return what a record keeps: versions, platform, device and the command that a user typed."""
    own = shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])
    return {
        "versions": {name: _version(name) for name in _PACKAGES},
        "python": platform.python_version(),
        "platform": platform.platform(),
        "device": device,
        "command": os.environ.get(COMMAND_VARIABLE, own),
    }


def _git(folder: Path, *arguments: str) -> str:
    try:
        result = subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return ""
    return result.stdout.strip()


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
