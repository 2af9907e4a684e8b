"""Write requirements-tested.txt, the hash of every file that the tested set installs, and docs/licences.md, their licences.

    python docs/make_pins.py            # or: make pins; pip resolves constraints.txt anew, a minute or two
    python docs/make_pins.py --check    # in `make lint`: both name what constraints.txt pins; needs no network

The hashes are those of the files for CPython 3.11 on Linux x86-64, where CI runs, with torch's build for CPUs.
"""

import argparse
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement

from scaling.atomic_files import write_text
from scaling.errors import UserError

ROOT = Path(__file__).parent.parent
CONSTRAINTS, PINS = ROOT / "constraints.txt", ROOT / "requirements-tested.txt"
PAGE = ROOT / "docs" / "licences.md"

_HEAD = """\
# Made by `make pins`: the files that pip installs of constraints.txt with CPython 3.11 on Linux x86-64, by their hashes.
# pip install --require-hashes --no-deps -r requirements-tested.txt
# torch is the build for CPUs, which torch's own index has.
"""
_PAGE_HEAD = """\
<!-- made by `make pins` -->
# Licences

The project is under [Apache-2.0](https://www.apache.org/licenses/LICENSE-2.0). What it is tested with, by the licence that each package's own metadata states; nothing of these packages is copied into the project.
`run` is what `pip install` of the project brings, `train` what training adds; the rest is for those who mirror runs, test or write documentation. Data sets have terms of their own: [data.md](data.md).

| package | version | for | licence |
|---|---|---|---|
"""
# what is installed for what, in the order of the page; the last two lines of pyproject.toml's groups are for developers
_PURPOSES = ("run", "train", "mirrors", "tests", "docs")


def normal(name: str) -> str:
    """The name as package indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def pinned() -> dict[str, str]:
    """Version by name in constraints.txt."""
    lines = CONSTRAINTS.read_text(encoding="utf-8").splitlines()
    return {normal(n): v for n, v in (line.split("==") for line in lines if "==" in line)}


def licence_of(found: Mapping[str, Any]) -> str:
    """The licence that a package's metadata (as `Metadata.json` gives it) states, as one short line."""
    if expression := found.get("license_expression"):
        return str(expression)
    named = [
        c.rpartition(" :: ")[2] for c in found.get("classifier", []) if c.startswith("License")
    ]
    named = [name for name in named if name != "OSI Approved"]
    text = " ".join(str(found.get("license") or "").split())
    return ", ".join(named) or (text if 0 < len(text) <= 60 else "see the package's own files")


def purposes(packages: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """What each package is installed for, from what the project and the packages require; metadata by normal name."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    own, extras = project["project"]["dependencies"], project["project"]["optional-dependencies"]
    groups = project["dependency-groups"]
    asked = {
        "run": own,
        "train": extras["train"],
        "mirrors": [r for name in ("tensorboard", "mlflow", "wandb") for r in extras[name]],
        "tests": [r for name in ("test", "lint", "type", "resolver") for r in groups[name]],
        "docs": groups["docs"],
    }
    found: dict[str, str] = {}
    for purpose in _PURPOSES:
        waiting = [Requirement(text) for text in asked[purpose]]
        while waiting:
            one = waiting.pop()
            name = normal(one.name)
            if name in found or name not in packages:
                continue
            found[name] = purpose
            waiting += _required(packages[name].get("requires_dist", []), one.extras)
    return found


def _required(lines: Iterable[str], extras: Iterable[str]) -> list[Requirement]:
    every = map(Requirement, lines)
    return [
        r
        for r in every
        if r.marker is None or any(r.marker.evaluate({"extra": e}) for e in ("", *extras))
    ]


def make() -> None:
    """Let pip resolve the tested set without installing it, and write both files.

    Raises:
        UserError: pip fails, or it chose another version than constraints.txt has.
    """
    command = [
        sys.executable, "-m", "pip", "install", "--dry-run", "--quiet", "--ignore-installed", "--report", "-",
        "-c", str(CONSTRAINTS), f"{ROOT}[train,tensorboard,mlflow,wandb]", "--group", "dev", "--group", "docs", "--group", "resolver",
    ]  # fmt: skip
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise UserError(f"pip: {done.stderr.strip().splitlines()[-1]}")
    chosen = [i for i in json.loads(done.stdout)["install"] if "archive_info" in i["download_info"]]
    packages = {normal(i["metadata"]["name"]): i["metadata"] for i in chosen}
    lines = sorted(
        f"{normal(i['metadata']['name'])}=={i['metadata']['version']}"
        f" --hash=sha256:{i['download_info']['archive_info']['hashes']['sha256']}"
        for i in chosen
    )
    use = purposes(packages)
    rows = [
        f"| {name} | {found['version']} | {use.get(name, 'tests')} | {licence_of(found)} |"
        for name, found in sorted(packages.items())
    ]
    write_text(PINS, _HEAD + "\n".join(lines) + "\n")
    write_text(PAGE, _PAGE_HEAD + "\n".join(rows) + "\n")
    check()


def check() -> None:
    """Check that both files name each package and version of constraints.txt, each file by a hash and no address.

    Raises:
        UserError: they do not, or an installed package states another licence than the page.
    """
    wanted, remedy = pinned(), "run `make pins`"
    lines = [x for x in PINS.read_text(encoding="utf-8").splitlines() if not x.startswith("#")]
    hashed = re.compile(r"([a-z0-9-]+)==(\S+) --hash=sha256:[0-9a-f]{64}")
    for line in lines:
        if not hashed.fullmatch(line):
            raise UserError(
                f"{PINS.name}: {line!r}, expected NAME==VERSION --hash=sha256:DIGITS; {remedy}"
            )
    # a build of a version, e.g. +cpu, is of this version
    held = {m[1]: m[2].partition("+")[0] for m in map(hashed.match, lines) if m}
    _agree(PINS, held, wanted, remedy)
    rows = [
        r.strip("| ").split(" | ")
        for r in PAGE.read_text(encoding="utf-8").splitlines()
        if "|" in r
    ][2:]
    _agree(PAGE, {name: version.partition("+")[0] for name, version, *_ in rows}, wanted, remedy)
    for name, version, _, licence in rows:
        try:
            installed = metadata.metadata(name)
        except metadata.PackageNotFoundError:
            continue
        if installed["Version"] == version and licence_of(installed.json) != licence:
            raise UserError(
                f"{PAGE.name}: {name} has the licence {licence}, expected {licence_of(installed.json)}; {remedy}"
            )


def _agree(path: Path, held: dict[str, str], wanted: dict[str, str], remedy: str) -> None:
    for name in sorted({*held, *wanted}):
        if held.get(name) != wanted.get(name):
            raise UserError(
                f"{path.name}: {name} is {held.get(name, 'absent')}, but constraints.txt has {wanted.get(name, 'none')}; {remedy}"
            )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true", help="compare with constraints.txt only")
    try:
        check() if parser.parse_args().check else make()
    except UserError as error:
        sys.exit(f"error: {error}")
