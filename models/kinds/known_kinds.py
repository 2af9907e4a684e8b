"""Which kinds of models there are, and what a study needs to know of one; torch is imported only where a kind needs it."""

import importlib
import math
from collections.abc import Mapping
from dataclasses import asdict, replace
from functools import lru_cache
from typing import Any, Literal

from models.accounting import ModelSize, model_size
from models.grades import Grade
from models.input_schema import InputSchema
from models.kinds.class_sources import former_digest, source_digest, sources_of
from models.kinds.own_class import ModelError, find_class, prints_to_stderr
from models.model_options import EncoderOptions, ModelOptions, SuanOptions

__all__ = [
    "KINDS",
    "ModelError",
    "check_model",
    "counted_size",
    "encoder_class",
    "exact_packing",
    "former_options",
    "measured_flops",
    "options_of",
    "options_type",
    "own_sources",
    "read_options",
    "size_of",
    "takes_batch_statistics",
]


# The module and class of each encoder.
KINDS: dict[str, str] = {
    "suan": "models.suan:SUAN",
    "lightsuan": "models.suan:SUAN",
    "din": "models.baselines:DIN",
    "bst": "models.baselines:BST",
    "hstu": "models.baselines:HSTU",
    "rankmixer": "models.baselines:RankMixer",
    "dcnv2": "models.baselines:DCNv2",
    "sim": "models.baselines:SIM",
}
_OF_SUAN = ("suan", "lightsuan")


def encoder_class(kind: str) -> Any:
    """Return the class of an encoder.

    Raises:
        ModelError: there is no such kind, or the class cannot be imported or does not keep the protocol.
    """
    return find_class(KINDS.get(kind, kind), known=tuple(KINDS), own=kind not in KINDS)


def options_type(kind: str) -> Any:
    """Return the frozen dataclass of a kind's options.

    Raises:
        ModelError: see `encoder_class`.
    """
    return SuanOptions if kind in _OF_SUAN else encoder_class(kind).options_type


def options_of(kind: str, options: Any) -> ModelOptions:
    """Return the options of a kind as a run config has them; `options` is a value of its `options_type`.

    Raises:
        ModelError: the options of a class from elsewhere are not plain values of JSON.
    """
    if isinstance(options, SuanOptions):
        return options
    source = "" if kind in KINDS else source_digest(encoder_class(kind))
    return EncoderOptions(kind, _plain(asdict(options), kind), source)


def read_options(options: ModelOptions) -> Any:
    """Return the options as the encoder's class takes them.

    Raises:
        ModelError: the class does not take them, or its source has changed since they were written.
    """
    if isinstance(options, SuanOptions):
        return options
    cls = encoder_class(options.kind)
    if options.source and options.source not in (source_digest(cls), former_digest(cls)):
        raise ModelError(
            f"{options.kind}: its source has changed since this run was planned; restore the source to use the run, or plan "
            "again to train the class as it is"
        )
    try:
        # JSON has no tuples
        values = {k: tuple(v) if isinstance(v, list) else v for k, v in options.values.items()}
        with prints_to_stderr():
            return cls.options_type(**values)
    except (TypeError, ValueError) as error:
        raise ModelError(f"{options.kind}: it does not take these options: {error}") from error


def former_options(options: EncoderOptions) -> EncoderOptions:
    """Return the options as the first runs of a class from elsewhere have them, whose digest counted docstrings, too."""
    if not options.source:
        return options
    return replace(options, source=former_digest(encoder_class(options.kind)))


def exact_packing(options: ModelOptions) -> tuple[Literal["request", "stretch"], ...]:
    """Return which packed passes give the same outputs as one pass for each candidate."""
    if isinstance(options, SuanOptions):
        return options.packing
    cls, own = encoder_class(options.kind), read_options(options)
    with prints_to_stderr():
        packing: tuple[Literal["request", "stretch"], ...] = cls.packing(own)
    return packing


def size_of(grade: Grade, options: ModelOptions, schema: InputSchema) -> ModelSize:
    """Count parameters, FLOPs and memory: SUAN's by its closed forms, others by torch on the meta device.

    Raises:
        ModelError: the class cannot be built or run with these sizes.
    """
    if isinstance(options, SuanOptions):
        return model_size(grade, options, schema)
    return counted_size(grade, options, schema)


def counted_size(grade: Grade, options: ModelOptions, schema: InputSchema) -> ModelSize:
    """Count parameters, FLOPs and memory by torch on the meta device, as the code computes them.

    Raises:
        ModelError: the class cannot be built or run with these sizes.
    """
    return _measured(grade, options, _Sizes(schema))


def measured_flops(
    grade: Grade, options: EncoderOptions, schema: InputSchema, n_history: int, n_candidates: int
) -> tuple[int, int]:
    """Return the forward FLOPs and the bytes saved for the backward pass of one pass over so many tokens.

    Raises:
        ModelError: the class cannot be built or run with these sizes.
    """
    return _measured_pass(grade, options, _Sizes(schema), n_history, n_candidates)


def takes_batch_statistics(grade: Grade, options: ModelOptions, schema: InputSchema) -> bool:
    """Whether a layer of the encoder takes statistics over the rows that it sees at once, as batch normalisation does.

    Those of the numeric features are of a whole step (`models.layers.StepNorm`), in whatever parts it is trained.

    Raises:
        ModelError: the class cannot be built with these sizes.
    """
    if isinstance(options, SuanOptions):
        return False
    return _batch_statistics(grade, options, _Sizes(schema))


def own_sources(options: ModelOptions) -> dict[str, str]:
    """Return the sources of a class from elsewhere by their paths, relative to the folder they are imported from."""
    if options.kind in KINDS:
        return {}
    return sources_of(encoder_class(options.kind))


def check_model(grade: Grade, options: ModelOptions, schema: InputSchema) -> None:
    """Check that a class from elsewhere keeps the protocol, by running it on small random passes.

    Raises:
        ModelError: one line that names the class, what it did and what was expected.
    """
    if isinstance(options, EncoderOptions) and options.kind not in KINDS:
        _checked(grade, options, _Sizes(schema))


class _Sizes:
    """A schema that is equal to another one if models of both have the same sizes."""

    def __init__(self, schema: InputSchema) -> None:
        self.schema = schema
        groups = (schema.behaviour, schema.candidate, schema.context, schema.profile)
        self._key = (
            *(
                tuple((f.name, f.vocabulary, f.max_values, f.pooling, f.weighted) for f in group)
                for group in groups
            ),
            tuple(schema.numeric),
            tuple(schema.vocabularies.items()),
        )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Sizes) and self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)


@lru_cache(maxsize=4096)
def _checked(grade: Grade, options: EncoderOptions, sizes: _Sizes) -> None:
    with prints_to_stderr():
        _module("contract_check").check_contract(grade, options, sizes.schema)


@lru_cache(maxsize=4096)
def _measured(grade: Grade, options: ModelOptions, sizes: _Sizes) -> ModelSize:
    with prints_to_stderr():
        size: ModelSize = _module("measured_size").measure(grade, options, sizes.schema)
    return size


@lru_cache(maxsize=65536)
def _measured_pass(
    grade: Grade, options: EncoderOptions, sizes: _Sizes, n_history: int, n_candidates: int
) -> tuple[int, int]:
    with prints_to_stderr():
        cost: tuple[int, int] = _module("measured_size").measure_pass(
            grade, options, sizes.schema, n_history, n_candidates
        )
    return cost


@lru_cache(maxsize=4096)
def _batch_statistics(grade: Grade, options: EncoderOptions, sizes: _Sizes) -> bool:
    with prints_to_stderr():
        found: bool = _module("measured_size").has_running_statistics(grade, options, sizes.schema)
    return found


def _module(name: str) -> Any:
    """A module of this room that needs torch."""
    return importlib.import_module(f"models.kinds.{name}")


def _plain(values: Mapping[str, Any], kind: str) -> dict[str, Any]:
    """The values as JSON gives them back.

    Raises:
        ModelError: JSON has no such value.
    """
    plain = {}
    for name, value in values.items():
        items = list(value) if isinstance(value, tuple) else value
        kept = items if isinstance(items, list) else [items]
        if not all(one is None or isinstance(one, bool | int | float | str) for one in kept):
            raise ModelError(
                f"{kind}: option {name} is {value!r}; expected a number, a text, true, false, or a tuple of these"
            )
        if any(isinstance(one, float) and not math.isfinite(one) for one in kept):
            raise ModelError(
                f"{kind}: option {name} is {value!r}; expected a finite number", option=name
            )
        plain[name] = items
    return plain
