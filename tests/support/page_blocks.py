"""The fenced blocks of the pages, and how one is run: as a reader would, in a folder of its own.

An HTML comment before a block says what is done with it; without one, it is run.
`<!-- not run: REASON -->`: only its `scaling` commands are parsed. `<!-- file: NAME -->`: it is written to NAME.
`<!-- numbers vary: REASON -->`: of what it prints, the words are compared, and not the numbers; with `output varies`, nothing is.
"""

import contextlib
import io
import os
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import typer.main

from scaling.cli import main
from scaling.cli.app import app

__all__ = ["Block", "blocks", "parse_commands", "run_block"]

RUNNABLE = ("bash", "console", "python")
_BLOCK = re.compile(
    r"(?:^<!-- (?P<key>not run|file|numbers vary|output varies): (?P<value>[^\n]+) -->\n)?"
    r"^```(?P<language>\S*)\n(?P<text>.*?)^```$",
    flags=re.MULTILINE | re.DOTALL,
)
_NUMBER = re.compile(r"[-+]?\d[\d.,:]*(?:e[-+]?\d+)?|\bopen\b|\s+")
_IN_PROCESSES = ("run",)  # it starts further ones
_ROOT = Path(__file__).parents[2]
_COMMAND = typer.main.get_command(app)


@dataclass(frozen=True)
class Block:
    """A fenced block, with the comment before it as `key` and `value` (empty: none)."""

    line: int
    language: str
    text: str
    key: str
    value: str

    @property
    def is_run(self):
        return self.language in RUNNABLE and self.key not in ("not run", "file")

    @property
    def commands(self):
        """The commands with what each prints: None if the page does not show it."""
        text = re.sub(r" *\\\n\s*", " ", self.text)
        if self.language == "bash":
            return [(line, None) for line in text.splitlines() if line.strip(" #")]
        found = re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]
        return [tuple(part.partition("\n")[::2]) for part in found]


def blocks(page):
    text = page.read_text(encoding="utf-8")
    return [
        Block(
            text[: found.start("text")].count("\n"),
            found["language"],
            found["text"],
            found["key"] or "",
            found["value"] or "",
        )
        for found in _BLOCK.finditer(text)
    ]


def scaling_words(command):
    """The words of each `scaling ...` of a shell line, e.g. two of `scaling a && scaling b`."""
    words = shlex.split(command, comments=True)
    ends = [i for i, word in enumerate(words) if word in ("&&", "||", "|") or word.endswith(";")]
    parts, begin = [], 0
    for end in [*ends, len(words)]:
        parts.append([word.rstrip(";") for word in words[begin : end + 1]])
        begin = end + 1
    for part in parts:
        while part and (part[0] == "do" or re.fullmatch(r"[A-Z_]+=\S*", part[0])):
            del part[0]
    return [
        [word for word in part[1:] if word not in ("&&", "||", "|")]
        for part in parts
        if part[:1] == ["scaling"]
    ]


def parse_commands(block):
    """Check the verbs and options of a block's `scaling` commands against the command line itself."""
    for command, _ in block.commands:
        for words in scaling_words(command):
            verb, rest = _COMMAND, words
            while hasattr(verb, "commands"):
                assert rest[0] in verb.commands, f"line {block.line}: there is no verb {rest[0]}"
                verb, rest = verb.commands[rest[0]], rest[1:]
            with contextlib.suppress(SystemExit):  # --help
                verb.make_context("scaling", list(rest))


def run_block(block, names):
    """Run a block in the working directory; `names` are those that Python blocks of the page have defined."""
    if block.language == "python":
        with contextlib.redirect_stdout(io.StringIO()):
            exec(compile(block.text, f"line {block.line}", "exec"), names)
        return
    for command, shown in block.commands:
        printed = _run_command(command)
        if shown is not None and block.key != "output varies":
            compare(shown, printed, exact=block.key != "numbers vary")


def _run_command(command):
    """Run a shell line, and return what a terminal would show of it."""
    words = shlex.split(command, comments=True)
    if words[0] == "scaling" and words[1] not in _IN_PROCESSES:
        with (
            io.StringIO() as terminal,
            contextlib.redirect_stdout(terminal),
            contextlib.redirect_stderr(terminal),
        ):
            with pytest.raises(SystemExit) as end:
                main(words[1:])
            assert end.value.code in (0, 1), f"{command}: {terminal.getvalue()}"
            return terminal.getvalue()
    if words[0] == "scaling":
        words[:1] = ["python", "-m", "scaling"]
    if words[0] == "python":
        words[0] = sys.executable
    done = subprocess.run(
        words,
        env=os.environ | {"PYTHONPATH": str(_ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode in (0, 1), f"{command}: {done.stdout}"
    return done.stdout


def compare(shown, printed, *, exact):
    """Check that a page shows what a command prints; a line of three points stands for any lines."""
    wanted = [line.rstrip() for line in shown.strip("\n").splitlines()]
    got = [line.rstrip() for line in printed.strip("\n").splitlines()]
    if not exact:
        wanted, got = (
            [_NUMBER.sub(" ", line).strip() for line in lines] for lines in (wanted, got)
        )
    parts, part = [], []
    for line in wanted:
        if line == "...":
            parts.append(part)
            part = []
        else:
            part.append(line)
    head, tails = (parts[0], [*parts[1:], part]) if parts else (part, [])
    if not tails:
        assert got == head
        return
    assert got[: len(head)] == head
    if tails[-1]:
        assert got[-len(tails[-1]) :] == tails[-1]
    for middle in tails[:-1]:
        assert "\n".join(middle) in "\n".join(got)
