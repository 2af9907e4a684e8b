"""One changed input of the command line and how it may end: the right outcome, or one line on stderr with exit 2."""

import base64
import contextlib
import hashlib
import io
import json
import os
import re
import shutil
import sys
import traceback
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

__all__ = ["Change", "Done", "Surface", "Verdict", "case_text", "is_one_in", "judge", "read_case"]


@dataclass(frozen=True)
class Change:
    """What differs from the valid files: contents by path, None for a file that is missing, and arguments."""

    files: Mapping[str, bytes | None] = field(default_factory=dict)
    arguments: tuple[str, ...] = ()


@dataclass(frozen=True)
class Done:
    """How a command has ended; `fault` is empty unless that is never right."""

    command: tuple[str, ...]
    code: int
    out: str
    err: str
    fault: str = ""


@dataclass(frozen=True)
class Surface:
    """A kind of input that others may hand over.

    Attributes:
        name: e.g. `study`.
        build: writes the valid files into the working directory, which is empty.
        change: makes an input from the valid files.
        commands: what is called with each input; what they write is below `out/`.
        codes: exit codes besides 2 that are right.
        check: says what is wrong with the outcome of accepted commands; empty if nothing is.
    """

    name: str
    build: Callable[[], None]
    change: Callable[[Random, Mapping[str, bytes]], Change]
    commands: Callable[[Change], Sequence[Sequence[str]]]
    codes: tuple[int, ...] = (0,)
    check: Callable[[Change, Mapping[str, bytes], Sequence[Done]], str] = lambda *_: ""


@dataclass(frozen=True)
class Verdict:
    """The outcome of an input: `accepted`, `refused` or `fault`, with what is wrong."""

    kind: str
    fault: str = ""


def is_one_in(n: int, change: Change, what: str) -> bool:
    """Whether an input is one of the share that something slow is done with; the input alone decides, so it can be done again."""
    digest = hashlib.sha256(f"{what} {change!r}".encode()).digest()
    return int.from_bytes(digest[:4], "big") % n == 0


def states() -> dict[str, tuple[int, ...]]:
    """Return what changes when one of the files of `contents` is written: size, times in ns and inode."""
    found: dict[str, tuple[int, ...]] = {}
    folders = [""]
    while folders:
        folder = folders.pop()
        with os.scandir(folder or ".") as entries:
            for entry in entries:
                name = f"{folder}{entry.name}"
                if entry.is_dir(follow_symlinks=False):
                    if name != "out":
                        folders.append(f"{name}/")
                else:
                    s = entry.stat()
                    found[name] = (s.st_size, s.st_mtime_ns, s.st_ctime_ns, s.st_ino)
    return found


def contents() -> dict[str, bytes]:
    """Return the files below the working directory, without those of `out/`."""
    return {
        str(path): path.read_bytes()
        for path in sorted(Path().rglob("*"))
        if path.is_file() and path.parts[0] != "out"
    }


def judge(surface: Surface, seed: Mapping[str, bytes], change: Change) -> Verdict:
    """Run the commands of a surface with a changed input in the working directory, which holds `seed`, and restore it.

    After each command, the states of all files and the contents of the changed ones are compared with those before; the contents
    of all, after one input in 16.
    """
    for name, content in change.files.items():
        path = Path(name)
        if content is None:
            path.unlink()
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
    before = {**seed, **change.files}
    before = {name: content for name, content in before.items() if content is not None}
    states_before = states()
    in_full = is_one_in(16, change, "contents")
    done = []
    try:
        for command in surface.commands(change):
            shutil.rmtree("out", ignore_errors=True)
            one = call(command)
            done.append(one)
            if fault := _fault(surface, one):
                return Verdict("fault", fault)
            if one.code == 2 and Path("out").exists() and any(Path("out").rglob("*")):
                return Verdict("fault", f"{_shown(command)}: refused, but something was written")
            states_now = states()
            names = {
                *(n for n in change.files if n in states_now and Path(n).read_bytes() != before[n]),
                *(n for n, _ in states_before.items() ^ states_now.items()),
            }
            if in_full and not names:
                after = contents()
                names = {n for n in {*before, *after} if before.get(n) != after.get(n)}
            if names:
                return Verdict(
                    "fault", f"{_shown(command)}: changed {', '.join(sorted(names)[:3])}"
                )
        if wrong := surface.check(change, seed, done):
            return Verdict("fault", wrong)
    finally:
        others = {n for n, _ in states_before.items() ^ states().items()}
        for name in {*change.files, *others}:
            if name in seed:
                Path(name).parent.mkdir(parents=True, exist_ok=True)
                Path(name).write_bytes(seed[name])
            else:
                Path(name).unlink(missing_ok=True)
        shutil.rmtree("out", ignore_errors=True)
    refused = any(one.code == 2 for one in done)
    return Verdict("refused" if refused else "accepted")


def _served() -> str:
    """What figures and reports read of the measured latencies; drawing them takes a second."""
    from analysis.latency import measured_counts, served_models
    from analysis.table import runs_table

    table, folder = runs_table(Path("runs/t")), Path("runs/t")
    counts = measured_counts(table, folder)
    served = (
        served_models(table, folder, "soft_logloss", n_candidates=counts[0]) if counts else None
    )
    return "" if served is None else served.models.to_json(orient="split")


def _rounds() -> str:
    from scaling.records import read_rounds

    return "".join(f"{one.reason!r} {one.width}\n" for one in read_rounds(Path("runs/tiny")))


# what reads files for verbs that would take seconds
VIEWS = {"@served": _served, "@rounds": _rounds}


def call(command: Sequence[str]) -> Done:
    """Call the command line in this process."""
    from scaling.aligned_text import printable
    from scaling.cli.app import main
    from scaling.errors import UserError

    out, err = io.StringIO(), io.StringIO()
    code, fault = 0, ""
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                if command[0].startswith("@"):
                    sys.stdout.write(VIEWS[command[0]]())
                else:
                    main(list(command))
            except UserError as error:
                line = printable(" ".join(str(error).split()))[:2000]
                sys.stderr.write(f"error: {line}\n")
                code = 2
            except SystemExit as ended:
                code = ended.code if isinstance(ended.code, int) else 1
    except BaseException as error:  # noqa: BLE001 whatever it is, it is a fault
        where = list(traceback.extract_tb(error.__traceback__))
        ours = next(
            (
                f
                for f in reversed(where)
                if "site-packages" not in f.filename and "lib/python" not in f.filename
            ),
            where[-1],
        )
        fault = f"{type(error).__name__}: {str(error)[:200]} ({Path(ours.filename).name}:{ours.lineno}, {Path(where[-1].filename).name}:{where[-1].lineno})"
    return Done(tuple(command), code, out.getvalue(), err.getvalue(), fault)


def _shown(command: Sequence[str]) -> str:
    return " ".join(command)[:80]


_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")


def _fault(surface: Surface, one: Done) -> str:
    name = _shown(one.command)
    if one.fault:
        return f"{name}: {one.fault}"
    if found := _CONTROL.search(one.out + one.err):
        return f"{name}: {found[0]!r} reaches the terminal"
    if one.code == 2:
        if one.err.count("\n") != 1 or not one.err.startswith("error: "):
            return f"{name}: exit 2 with {one.err.count(chr(10))} lines: {one.err[:300]!r}"
        if len(one.err) > 3000:
            return f"{name}: a message of {len(one.err)} characters"
        return ""
    if one.code not in surface.codes:
        return f"{name}: exit {one.code}: {one.err[:200]!r}"
    if "--json" in one.command:
        try:
            json.loads(one.out, parse_constant=lambda text: 1 / 0)
        except (ValueError, ZeroDivisionError):
            return f"{name}: stdout is not JSON"
    return ""


def case_text(surface: str, change: Change, right: str, why: str = "") -> str:
    """Return a case of the corpus as text: an input with its right outcome, `accepted`, `refused` or `either`."""

    def plain(content: bytes | None) -> object:
        if content is None:
            return None
        if len(content) < 3000:
            with contextlib.suppress(UnicodeDecodeError):
                return content.decode()
        return {"zlib": base64.b64encode(zlib.compress(content, 9)).decode()}

    document = {
        "surface": surface,
        "right": right,
        "was": why,
        "files": {name: plain(content) for name, content in change.files.items()},
        "arguments": list(change.arguments),
    }
    return json.dumps(document, indent=1) + "\n"


def read_case(path: Path) -> tuple[str, Change, str]:
    """Return surface, input and right outcome of a case."""
    document = json.loads(path.read_text())

    def content(value: object) -> bytes | None:
        if isinstance(value, dict):
            return zlib.decompress(base64.b64decode(value["zlib"]))
        return None if value is None else str(value).encode()

    files = {name: content(value) for name, value in document["files"].items()}
    return document["surface"], Change(files, tuple(document["arguments"])), document["right"]
