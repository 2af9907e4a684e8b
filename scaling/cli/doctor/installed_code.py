"""Checks of what is installed: Python, our packages and what hides them, the packages that they need."""

import re
import sys
from collections.abc import Iterator, Sequence
from importlib.machinery import PathFinder
from importlib.metadata import PackageNotFoundError, distribution, requires
from importlib.metadata import version as version_of
from pathlib import Path

from scaling.cli.doctor.finding import Finding

__all__ = [
    "check_own_packages",
    "check_python",
    "check_requirements",
    "hiding_files",
    "why_torch_fails",
]


_HOME = Path(__file__).resolve().parents[3]
_OURS = ("analysis", "models", "scaling", "sweeps")
_NAME = "ctr-scaling"
_LEAST_PYTHON = (3, 11)
_FOR_TRAINING = "train"
_TORCH = "torch"
_MISSING = "is missing"


def check_python() -> Finding:
    """The version of Python, and where it is."""
    found = f"{sys.version.split()[0]} at {sys.executable}"
    if sys.version_info < _LEAST_PYTHON:
        return Finding("fail", "python", found, "install Python 3.11 or newer")
    return Finding("ok", "python", found)


def check_own_packages() -> Iterator[Finding]:
    """The version of this package and its folder, and files that hide its modules."""
    try:
        version = version_of(_NAME)
    except PackageNotFoundError:
        version = "not installed"
    yield Finding("ok", _NAME, f"{version}, code at {_HOME}")
    for name, file, is_first in hiding_files(sys.path, Path.cwd()):
        if is_first:
            advice = "rename it, or remove its folder from PYTHONPATH"
            yield Finding("fail", name, f"{file} is imported in place of {_HOME / name}", advice)
        else:
            advice = "rename it, or start Python with -P, or from another folder"
            found = f"{file} would be imported in place of ours by `python -c` or a notebook here"
            yield Finding("warn", name, found, advice)


def hiding_files(path: Sequence[str], here: Path) -> list[tuple[str, Path, bool]]:
    """Return modules and folders that have the names of our packages.

    Args:
        path: folders that are searched, as `sys.path`.
        here: the working directory, which Python searches first if it is started without a script.

    Returns:
        For each: the name, the file or folder, and whether it is found on `path` before ours (else only from `here`).
    """
    found = []
    for name in _OURS:
        # a folder without __init__.py is found only if there is no module of that name anywhere
        for folders, is_first in ((list(path), True), ([str(here), *path], False)):
            PathFinder.invalidate_caches()
            spec = PathFinder.find_spec(name, folders)
            if spec is None or spec.origin is None:
                continue
            file = Path(spec.origin).resolve()
            if file != _HOME / name / "__init__.py":
                place = file.parent if file.name == "__init__.py" else file
                found.append((name, place, is_first))
                break
    return found


def check_requirements() -> Iterator[Finding]:
    """The versions of the packages that are needed: those of all verbs, then those of training."""
    try:
        lines = requires(_NAME) or []
    except PackageNotFoundError:
        advice = 'run `pip install -e ".[train]"` in the folder of the code'
        yield Finding(
            "warn", "packages", f"{_NAME} is not installed, so its needs are unknown", advice
        )
        return
    needed = [line for line in lines if "extra ==" not in line]
    training = [line for line in lines if re.search(rf"extra == ['\"]{_FOR_TRAINING}['\"]", line)]
    yield _versions("packages", needed, _NAME, "fail")
    yield _versions("for training", training, f"{_NAME}[{_FOR_TRAINING}]", "warn")


def _versions(name: str, lines: Sequence[str], package: str, state: str) -> Finding:
    there, problems = [], []
    advice = f'pip install --upgrade "{package}"'
    for line in lines:
        match = re.match(r"([\w.-]+)\s*(?:>=\s*([\d.]+))?", line)
        if match is None:
            continue
        needed, least = match[1], match[2] or "0"
        try:
            version = distribution(needed).version
        except PackageNotFoundError:
            problems.append(f"{needed} {_MISSING}")
            continue
        if needed == _TORCH and (why := why_torch_fails()):
            problems.append(f"{needed} {why}")
            if why != _MISSING:
                advice, state = f"pip install --force-reinstall {needed}", "fail"
            continue
        there.append(f"{needed} {version}")
        if _release(version) < _release(least):
            problems.append(f"{needed} {version} is older than {least}")
    if problems:
        found = ", ".join(problems)
        if name == "for training":
            found += "; plans, fits and reports work, training does not"
        return Finding("fail" if state == "fail" else "warn", name, found, advice)
    return Finding("ok", name, ", ".join(there))


def why_torch_fails() -> str:
    """What is wrong with torch, on one line, as what follows its name; empty if it can be imported."""
    try:
        import torch  # noqa: F401 - only its import is tried
    except Exception as error:  # noqa: BLE001 - of a broken library or package, which may raise anything
        # whatever the list of installed packages says
        if isinstance(error, ModuleNotFoundError) and error.name == _TORCH:
            return _MISSING
        lines = str(error).strip().splitlines()
        return f"cannot be imported: {lines[0] if lines else type(error).__name__}"
    return ""


def _release(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version.partition("+")[0])[:3])
