"""Where a run came from: code, versions, device and command, as far as they can be known."""

import platform
import shlex
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

__all__ = ["code_version", "describe_environment"]

_PACKAGES = ("ctr-scaling", "torch", "numpy", "scipy", "pandas", "submitit")


def code_version() -> dict[str, Any]:
    """Return the git commit of the code and whether it was changed since; None outside a checkout."""
    folder = Path(__file__).resolve().parent.parent
    commit = _git(folder, "rev-parse", "HEAD")
    changes = _git(folder, "status", "--porcelain", "--untracked-files=no")
    return {"git_commit": commit or None, "git_dirty": bool(changes) if commit else None}


def describe_environment(device: str) -> dict[str, Any]:
    """Return what a record keeps: commit, versions, platform, device and command line."""
    return {
        **code_version(),
        "versions": {name: _version(name) for name in _PACKAGES},
        "python": platform.python_version(),
        "platform": platform.platform(),
        "device": device,
        "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
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
