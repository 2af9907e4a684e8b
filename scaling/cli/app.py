"""The command `scaling`: global options, exit codes, and the one place where errors become a line on stderr.

The verbs are in the rooms beside this module: `sweep`, `data`, `laws`.
Exit codes: 0 done, 1 ran but the result is bad, 2 wrong use or bad input, 130 interrupted.
"""

import logging
import os
import re
import sys
from functools import cache
from typing import Annotated, Any, NoReturn, TextIO

import typer

from scaling.aligned_text import printable
from scaling.cli import data, doctor, laws, other_tools, serve_bench_verb, study_files, sweep
from scaling.cli.interrupted import after_interrupt
from scaling.cli.missing_packages import missing_package
from scaling.cli.output import coloured
from scaling.cli.whole_summaries import WholeSummaries
from scaling.errors import UserError, nearest

__all__ = ["app", "main"]


app = typer.Typer(
    name="scaling",
    cls=WholeSummaries,
    help="Scaling-law studies of click-through-rate models: from logs to fitted laws with intervals.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for _part in (study_files, doctor, sweep, data, laws, serve_bench_verb, other_tools):
    _part.add_verbs(app)

_INTERRUPTED = 130
_MOST_CHARACTERS = 2000
# What a comparison is with: `compare` takes a baseline, `race` and `compute-gain` a reference.
_OTHER_NAMES = {"--baseline": "--reference", "--reference": "--baseline"}
_debug = False


class _StderrHandler(logging.StreamHandler[TextIO]):
    """Logs to the present `sys.stderr`, which rich replaces while bars are drawn, so that lines go above them."""

    @property
    def stream(self) -> TextIO:
        return sys.stderr

    @stream.setter
    def stream(self, _: TextIO) -> None:
        pass

    def format(self, record: logging.LogRecord) -> str:
        return "\n".join(map(printable, super().format(record).split("\n")))


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(version("ctr-scaling"))
        raise typer.Exit


@app.callback()
def _options(
    verbose: Annotated[bool, typer.Option("-v", "--verbose", help="Log more to stderr.")] = False,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="Log errors only.")] = False,
    debug: Annotated[bool, typer.Option(help="Show the traceback of an error.")] = False,
    _version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    global _debug
    _debug = debug
    level = logging.DEBUG if verbose else logging.ERROR if quiet else logging.INFO
    logging.basicConfig(level=level, handlers=[_StderrHandler()], format="%(message)s", force=True)
    for noisy in ("matplotlib", "submitit", "PIL"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


@cache
def _command() -> Any:
    """All verbs with their options; built once, although a process may call `main` many times."""
    return typer.main.get_command(app)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit; `arguments` default to `sys.argv[1:]`."""
    try:
        code = _command().main(arguments, prog_name="scaling", standalone_mode=False)
        sys.stdout.flush()  # so that a full device is an error here, not a traceback at exit
    except UserError as error:
        if _debug:
            raise
        _fail(str(error))
    except ModuleNotFoundError as error:
        message = missing_package(error)
        if _debug or message is None:
            raise
        _fail(message)
    except KeyboardInterrupt:
        code = _INTERRUPTED
    except BrokenPipeError:  # the reader has closed the pipe, e.g. `head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    except OSError as error:
        if _debug or error.errno is None:
            raise
        _fail(f"{error.filename or 'output'}: {error.strerror}")
    except Exception as error:
        # typer's usage errors carry a message; anything else is a bug and shows its traceback.
        if type(error).__name__ == "Abort":
            code = _INTERRUPTED
        elif type(error).__name__ == "NoArgsIsHelpError":
            print(error)
            code = 2
        elif hasattr(error, "format_message"):
            _fail(_other_name(error) or _usage_message(error.format_message()))
        else:
            raise
    if code == _INTERRUPTED:
        words = sys.argv[1:] if arguments is None else arguments
        print(after_interrupt(words), file=sys.stderr)
    sys.exit(code if isinstance(code, int) else 0)


def _other_name(error: Any) -> str:
    """The message for an option that another verb has and this one names otherwise; else empty."""
    name, context = getattr(error, "option_name", ""), getattr(error, "ctx", None)
    other = _OTHER_NAMES.get(name)
    if context is None or not any(other in option.opts for option in context.command.params):
        return ""
    return f"No such option: {name}, did you mean {other}?"


def _usage_message(message: str) -> str:
    """Return typer's message; for a wrong choice, the option with the value and the nearest valid one instead."""
    wrong = re.fullmatch(
        r"Invalid value for '(?P<option>[^']+)':.*?(?P<quote>['\"])(?P<value>.*)(?P=quote) is not one of "
        r"(?P<valid>'.*')\.?",
        message,
        flags=re.DOTALL,
    )
    if wrong is None:
        return message
    valid = re.findall(r"'([^']*)'", wrong["valid"])
    return f"{wrong['option']} {wrong['value']}: no such choice{nearest(wrong['value'], valid)}"


def _fail(message: str) -> NoReturn:
    begin = coloured("error:", "error", on_stderr=True)
    line = printable(" ".join(message.split()))
    if len(line) > _MOST_CHARACTERS:  # it quotes what was given, e.g. a cell of a megabyte
        line = f"{line[: _MOST_CHARACTERS // 2]} ... {line[-_MOST_CHARACTERS // 2 :]}"
    print(begin, line, file=sys.stderr)
    sys.exit(2)
