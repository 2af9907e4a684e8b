"""The sources that define a class from elsewhere, and their digest, which is a part of a run's signature. Needs no torch."""

import ast
import hashlib
import sys
from collections.abc import Callable, Iterator
from functools import cache
from importlib.util import resolve_name
from pathlib import Path
from types import ModuleType
from typing import Any

from models.kinds.own_class import ModelError

__all__ = ["former_digest", "source_digest", "sources_of", "syntax_text"]


@cache
def source_digest(cls: Any) -> str:
    """Return 16 hex digits of the syntax of the sources that define a class: its module and those that it imports.

    Imports are followed within the top-level package, or folder, of the class. Comments, docstrings and line breaks do not
    count, nor does the version of Python.

    Raises:
        ModelError: a source cannot be read.
    """
    return _digest(cls, syntax_text)


@cache
def former_digest(cls: Any) -> str:
    """Return the digest as the first runs of classes from elsewhere have it: docstrings and the version of Python count.

    Raises:
        ModelError: a source cannot be read.
    """
    return _digest(cls, ast.dump)


def syntax_text(node: object) -> str:
    """Return a syntax tree as text: no positions, docstrings or empty fields, which vary between versions of Python."""
    if isinstance(node, list):
        return "[" + ",".join(map(syntax_text, node)) + "]"
    if not isinstance(node, ast.AST):
        return repr(node)
    parts = []
    for name, value in ast.iter_fields(node):
        if name == "body" and isinstance(value, list):  # that of a lambda is one expression
            value = [part for part in value if not _is_text(part)]
        if value is not None and value != []:
            parts.append(f"{name}={syntax_text(value)}")
    return f"{type(node).__name__}({','.join(parts)})"


def _is_text(statement: ast.AST) -> bool:
    """Whether a statement is a docstring, or a string that documents an attribute."""
    return isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)


def _digest(cls: Any, text_of: Callable[[ast.AST], str]) -> str:
    digest = hashlib.sha256()
    for name, text in sorted(sources_of(cls).items()):
        digest.update(f"{name}\n{text_of(ast.parse(text))}\n".encode())
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
            line = " ".join(f"{type(error).__name__}: {error}".split())
            raise ModelError(f"{name}: its source cannot be read: {line[:200]}") from error
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
