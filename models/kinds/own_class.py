"""Classes from elsewhere: finding one by MODULE:CLASS, and a digest of the sources that define it. Needs no torch."""

import ast
import hashlib
import importlib
import inspect
import sys
from collections.abc import Iterator, Sequence
from dataclasses import fields, is_dataclass
from difflib import get_close_matches
from functools import cache
from importlib.util import resolve_name
from pathlib import Path
from types import ModuleType
from typing import Any

__all__ = ["ModelError", "find_class", "source_digest", "sources_of"]


class ModelError(ValueError):
    """A model that cannot be trained; one line that names its class, what is wrong and what was expected."""


def find_class(place: str, *, known: Sequence[str], own: bool) -> Any:
    """Import the class at MODULE:CLASS; the working directory is searched too.

    Args:
        place: module and class.
        known: names of kinds, for the message.
        own: whether the class is from elsewhere, and so has to be checked.

    Raises:
        ModelError: it cannot be imported, or it is no encoder.
    """
    name, colon, attribute = place.partition(":")
    if not colon:
        near = get_close_matches(place, known, 1)
        hint = f" (did you mean {near[0]}?)" if near else ""
        raise ModelError(
            f"there is no kind {place}{hint}; expected {', '.join(known)}, or MODULE:CLASS"
        )
    if own and (here := str(Path.cwd())) not in sys.path:
        sys.path.append(here)
    try:
        module = importlib.import_module(name)
    except (Exception, SystemExit) as error:
        raise ModelError(
            f"{place}: cannot be imported: {_line(error)}; expected a module in the working directory or an "
            "installed package"
        ) from error
    cls = getattr(module, attribute, None)
    if cls is None:
        near = get_close_matches(attribute, dir(module), 1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise ModelError(f"{place}: the module has no such class{hint}")
    if own:
        _check_class(place, cls)
    return cls


def _check_class(place: str, cls: Any) -> None:
    """Check what can be seen without building the encoder."""
    protocol = importlib.import_module("models.encoder").Encoder
    if not (inspect.isclass(cls) and issubclass(cls, protocol)):
        raise ModelError(f"{place}: expected a subclass of models.encoder.Encoder")
    if missing := sorted(getattr(cls, "__abstractmethods__", ())):
        raise ModelError(f"{place}: has no method {', '.join(missing)}; see models.encoder.Encoder")
    options = getattr(cls, "options_type", None)
    frozen = is_dataclass(options) and options.__dataclass_params__.frozen  # type: ignore[union-attr]
    if not (inspect.isclass(options) and frozen):
        raise ModelError(
            f"{place}: its options_type is {options!r}; expected a frozen dataclass of its options"
        )
    if taken := {"kind", "source"} & {f.name for f in fields(options)}:  # type: ignore[arg-type]
        raise ModelError(f"{place}: an option cannot have the name {min(taken)}; choose another")
    for name in ("packing", "encodes_once"):
        if not inspect.ismethod(getattr(cls, name)):
            raise ModelError(f"{place}: {name} is no class method; put @classmethod above it")


@cache
def source_digest(cls: Any) -> str:
    """Return 16 hex digits of the syntax of the sources that define a class: its module and those that it imports.

    Imports are followed within the top-level package, or folder, of the class. Comments do not count.

    Raises:
        ModelError: a source cannot be read.
    """
    digest = hashlib.sha256()
    for name, text in sorted(sources_of(cls).items()):
        digest.update(f"{name}\n{ast.dump(ast.parse(text))}\n".encode())
    digest.update(cls.__qualname__.encode())
    return digest.hexdigest()[:16]


def sources_of(cls: Any) -> dict[str, str]:
    """Return the sources that define a class: its module, its packages and what they import of their own, by relative path.

    Raises:
        ModelError: a source cannot be read.
    """
    return dict(_sources(sys.modules[cls.__module__]))


def _sources(first: ModuleType) -> Iterator[tuple[str, str]]:
    waiting, seen = [first.__name__], set()
    root = first.__name__.partition(".")[0]
    folder = None if "." in first.__name__ else Path(first.__file__ or ".").parent
    while waiting:
        name = waiting.pop()
        module = sys.modules.get(name)
        if name in seen or module is None or not getattr(module, "__file__", None):
            continue
        path = Path(module.__file__ or "")
        if not (name.partition(".")[0] == root or path.parent == folder):
            continue
        seen.add(name)
        try:
            text = path.read_text(encoding="utf-8")
            tree = ast.parse(text)
        except (OSError, UnicodeDecodeError, SyntaxError) as error:
            raise ModelError(f"{name}: its source cannot be read: {_line(error)}") from error
        is_package = path.name == "__init__.py"
        yield f"{name.replace('.', '/')}{'/__init__' if is_package else ''}.py", text
        waiting += [name.rpartition(".")[0]]
        package = module.__package__ or ""
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                waiting += [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                start = resolve_name("." * node.level, package).rstrip(".") if node.level else ""
                full = ".".join(filter(None, (start, node.module)))
                waiting += [full, *(f"{full}.{alias.name}" for alias in node.names)]


def _line(error: BaseException) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:200]
