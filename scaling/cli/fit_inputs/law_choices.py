"""The allowed values of options of the verbs on laws, so that typer checks them and lists them in the help.

They repeat names that `analysis` defines. The help cannot import `analysis`, as it must not load numpy;
`tests/cli/test_law_verbs.py` checks that both agree.
"""

from enum import StrEnum

__all__ = [
    "CutName",
    "FigureKind",
    "IntervalName",
    "JointLaw",
    "LawName",
    "LossName",
    "ResidualName",
    "SizeLaw",
    "WeightsName",
]


class LossName(StrEnum):
    """Loss of a fit."""

    GAUSSIAN = "gaussian"
    HUBER = "huber"


class ResidualName(StrEnum):
    """Scale of the residuals."""

    RAW = "raw"
    LOG = "log"


class WeightsName(StrEnum):
    """Weights of the rows."""

    NONE = "none"
    STDERR = "stderr"


class IntervalName(StrEnum):
    """Kind of the intervals."""

    PROFILE = "profile"
    BOOTSTRAP = "bootstrap"
    WALD = "wald"
    NONE = "none"


class JointLaw(StrEnum):
    """A law of model size and data size."""

    ADDITIVE = "additive"
    TIED = "tied"
    MULTIPLICATIVE = "multiplicative"
    KAPLAN = "kaplan"
    INTERACTION = "interaction"
    BOTTLENECK = "bottleneck"


class SizeLaw(StrEnum):
    """A law of a metric by model size and data size, or by one size."""

    ADDITIVE = "additive"
    TIED = "tied"
    MULTIPLICATIVE = "multiplicative"
    KAPLAN = "kaplan"
    INTERACTION = "interaction"
    BOTTLENECK = "bottleneck"
    SATURATING = "saturating"
    POWER = "power"
    SHIFTED = "shifted"
    BROKEN = "broken"


class LawName(StrEnum):
    """Any law."""

    ADDITIVE = "additive"
    TIED = "tied"
    MULTIPLICATIVE = "multiplicative"
    KAPLAN = "kaplan"
    INTERACTION = "interaction"
    BOTTLENECK = "bottleneck"
    LENGTH = "length"
    EMBEDDINGS = "embeddings"
    REPEATED = "repeated"
    DATA_CONSTRAINED = "data-constrained"
    SATURATING = "saturating"
    POWER = "power"
    SHIFTED = "shifted"
    BROKEN = "broken"
    EXPONENTIAL = "exponential"
    SIGMOID = "sigmoid"
    LOG_LINEAR = "log-linear"
    LOG_LINEAR_JOINT = "log-linear-joint"


class CutName(StrEnum):
    """What `holdout` holds out."""

    DATA = "data"
    SIZE = "size"
    CORNER = "corner"
    FLOPS = "flops"


class FigureKind(StrEnum):
    """A figure of `plot`."""

    DATA = "data"
    SIZE = "size"
    FLOPS = "flops"
    EXCESS = "excess"
    RESIDUALS = "residuals"
    HOLDOUT = "holdout"
    FRONTIER = "frontier"
    ISOFLOP = "isoflop"
