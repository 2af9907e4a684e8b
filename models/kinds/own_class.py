"""Classes from elsewhere: finding one by MODULE:CLASS, and running its code. Needs no torch."""

import importlib
import inspect
import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager, redirect_stdout
from dataclasses import fields, is_dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

__all__ = ["ModelError", "find_class", "prints_to_stderr"]


class ModelError(ValueError):
    """A model that cannot be trained; one line that names its class, what is wrong and what was expected.

    Attributes:
        option: the option that is wrong; empty if it is none of them.
    """

    def __init__(self, text: str, option: str = "") -> None:
        """Keep the text and the name of the option."""
        super().__init__(text)
        self.option = option

    @property
    def key(self) -> str:
        """The key of a study that is wrong, e.g. `model.kind`."""
        return f"model.{self.option or 'kind'}"


def prints_to_stderr() -> AbstractContextManager[object]:
    """Run code of somebody else in this context: what it prints does not mix with the results on stdout."""
    return redirect_stdout(sys.stderr)


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
            f"there is no kind {place or repr(place)}{hint}; expected {', '.join(known)}, or MODULE:CLASS"
        )
    if name.endswith(".py") or "/" in name or not all([*name.split("."), attribute]):
        plain = name.removesuffix(".py")
        hint = (
            f" without .py, as in {plain}:{attribute}" if plain != name and "/" not in name else ""
        )
        raise ModelError(f"{place!r}: expected MODULE:CLASS{hint}")
    if own and (here := str(Path.cwd())) not in sys.path:
        sys.path.append(here)
    try:
        with prints_to_stderr():
            module = importlib.import_module(name)
    except (Exception, SystemExit) as error:
        absent = isinstance(error, ModuleNotFoundError) and f"{name}.".startswith(f"{error.name}.")
        raise ModelError(
            f"{place}: there is no module {name}; {_hidden(name) or 'expected one in the working directory, or an installed package'}"
            if absent
            else f"{place}: cannot be imported: {_line(error)}"
        ) from error
    cls = getattr(module, attribute, None)
    if cls is None:
        near = get_close_matches(attribute, dir(module), 1)
        hint = _hidden(name) or (f"did you mean {near[0]}?" if near else "")
        raise ModelError(f"{place}: the module has no such class{hint and '; '}{hint}")
    if own:
        _check_class(place, cls)
    return cls


def _hidden(name: str) -> str:
    """Advice if the working directory has a module of this name, but Python takes another one; else empty."""
    root = name.partition(".")[0]
    module, here = sys.modules.get(root), Path.cwd()
    own = next((path for path in (here / f"{root}.py", here / root) if path.exists()), None)
    taken = Path(getattr(module, "__file__", None) or here).resolve()
    if own is None or module is None or taken.is_relative_to(here.resolve()):
        return ""
    return f"{own.name} in the working directory is hidden by another module {root}: rename it"


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


def _line(error: BaseException) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:200]
