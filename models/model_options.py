"""The options of a model: those of SUAN and LightSUAN, the paper's variations, and those of any other encoder. Needs no torch."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from models.input_schema import InputSchema
from models.sparse_pattern import SparsePattern

__all__ = ["N_TIME_BUCKETS", "EncoderOptions", "ModelOptions", "SuanOptions", "settings_of_model"]


# No user's history is longer than this.
_LONGEST = 1_000_000
# default window and dilation of a LightSUAN
_WINDOW, _DILATION = 16, 16

# log buckets of the time between two events, ln(seconds) / 0.301 (SUAN's released settings)
N_TIME_BUCKETS = 128


@dataclass(frozen=True)
class SuanOptions:
    """The variations that the SUAN paper and its release compare; the defaults are the paper's model.

    Attributes:
        norm: RMSNorm or LayerNorm (paper, comparison of norms).
        placement: `pre`: x + f(norm(x)); `post`: norm(x + f(x)); `released`: the authors' code,
            whose residual is taken from the normalised stream.
        ffn: SwiGLU, or a plain ReLU network of the same inner width.
        fusion: how AFNet joins the sequence S and its profile view C: `dual` alignment attention,
            plain `sum`, or `none` (no AFNet; always so if the data have no profile features).
        bias: relative attention bias by position, by time, both or none.
        pooling: tokens that the alignment mean covers: `behaviours` (valid behaviours, so that the
            history's encoding is the same for every candidate), `all` (paper and release: padding
            and candidate included), or `running` (valid tokens up to the token itself).
        positions: the position table counts back from the request (`end`, the paper's) or from the
            first behaviour read (`start`, under which a stretch of a user's log can share a pass).
        target_aware: the candidate is the sequence's last token; otherwise it joins in the head only.
        dropout: rate on each block's residual branches.
        kind: `suan`, or `lightsuan`, in which a token attends to the latest `window` tokens, itself
            included, and to every `dilation`-th token before them (paper, LightSUAN).
        window, dilation: in events, only for `lightsuan`. Default: 16.
    """

    norm: Literal["rms", "layer"] = "rms"
    placement: Literal["pre", "post", "released"] = "pre"
    ffn: Literal["swiglu", "relu"] = "swiglu"
    fusion: Literal["dual", "sum", "none"] = "dual"
    bias: Literal["both", "position", "time", "none"] = "both"
    pooling: Literal["behaviours", "all", "running"] = "behaviours"
    positions: Literal["end", "start"] = "end"
    target_aware: bool = True
    dropout: float = 0.0
    kind: Literal["suan", "lightsuan"] = "suan"
    window: int | None = None
    dilation: int | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout is {self.dropout}, expected 0 <= dropout < 1")
        for name, default in (("window", _WINDOW), ("dilation", _DILATION)):
            value = getattr(self, name)
            if value is not None and not 1 <= value <= _LONGEST:
                raise ValueError(f"{name} is {value}, expected 1 to {_LONGEST:,} events")
            if value is None and self.kind == "lightsuan":
                object.__setattr__(self, name, default)

    def on(self, schema: InputSchema) -> "SuanOptions":
        """Return the options that a model on `schema` uses: without profile features, fusion is `none`."""
        return self if schema.profile else replace(self, fusion="none")

    @property
    def packing(self) -> tuple[Literal["request", "stretch"], ...]:
        """Which packed passes give the same outputs as one pass for each candidate (`models.encoder.Encoder.packing`)."""
        if self.fusion == "dual" and self.pooling == "all":
            return ()
        running = self.fusion != "dual" or self.pooling == "running"
        if running and self.positions == "start" and self.target_aware:
            return ("request", "stretch")
        return ("request",)

    @property
    def pattern(self) -> SparsePattern | None:
        """Which earlier tokens a token attends to; None: all of them."""
        if self.kind == "suan" or self.window is None or self.dilation is None:
            return None
        return SparsePattern(self.window, self.dilation)


@dataclass(frozen=True)
class EncoderOptions:
    """The options of an encoder other than SUAN, as its class completed them.

    Attributes:
        kind: a name of `models.kinds.KINDS`, or MODULE:CLASS.
        values: all options of the class, as plain values of JSON.
        source: 16 hex digits of the sources that define a class from elsewhere; empty for one of this package.
    """

    kind: str
    values: Mapping[str, Any] = field(default_factory=dict)
    source: str = ""

    def __hash__(self) -> int:
        """Equal options have equal texts."""
        return hash(json.dumps(asdict(self), sort_keys=True))


ModelOptions = SuanOptions | EncoderOptions


class OptionError(ValueError):
    """An option that a model cannot have on these data; one line: its value, and what was expected.

    Attributes:
        option: its name.
    """

    def __init__(self, option: str, text: str) -> None:
        """Keep the text and the name of the option."""
        super().__init__(text)
        self.option = option


def settings_of_model(options: ModelOptions) -> dict[str, Any]:
    """Return the options by name, `kind` included, as columns of a table show them."""
    if isinstance(options, SuanOptions):
        return asdict(options)
    source = {"source": options.source} if options.source else {}
    return {"kind": options.kind, **source, **options.values}
