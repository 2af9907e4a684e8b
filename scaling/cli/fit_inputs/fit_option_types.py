"""The options of a fit that several verbs on laws take, each with its help; they become `analysis.fit.FitOptions`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from scaling.cli.fit_inputs.law_choices import LossName, ResidualName, WeightsName
from scaling.cli.fit_inputs.sources import parse_numbers
from scaling.errors import UserError, nearest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from analysis.fit import FitOptions
    from analysis.laws import Law

__all__ = [
    "BestOf",
    "BootstrapSeed",
    "Delta",
    "Embeddings",
    "Hold",
    "LimitOfE",
    "Loss",
    "Residual",
    "Rising",
    "Weights",
    "check_held",
    "chosen_options",
]


Loss = Annotated[LossName, typer.Option(help="gaussian fits the means of cells, huber every row.")]
Delta = Annotated[float | None, typer.Option(help="Threshold of the huber loss [default: 0.001].")]
Embeddings = Annotated[
    str,
    typer.Option(
        help="Column of the size of the embedding tables, for --law embeddings: parameters, rows or a hash size."
    ),
]
Hold = Annotated[
    list[str] | None,
    typer.Option(metavar="NAME=VALUE", help="Hold a parameter at a value; repeatable."),
]
Residual = Annotated[
    ResidualName | None,
    typer.Option(help="Scale of the residuals [default: raw with gaussian, log with huber]."),
]
Weights = Annotated[
    WeightsName, typer.Option(help="stderr weighs each row by 1 / Y_stderr squared.")
]
BootstrapSeed = Annotated[int, typer.Option(help="Seed of the bootstrap.")]
Rising = Annotated[
    bool | None,
    typer.Option(
        "--rising/--falling",
        help="The metric's direction; of several metrics, of those whose names do not tell it [default: by its name].",
    ),
]
BestOf = Annotated[
    str | None,
    typer.Option(
        "--best-of",
        metavar="COLUMN,...",
        help="Settings of which each cell's best counts, by the (first) metric, e.g. lr,batch_size.",
    ),
]
LimitOfE = Annotated[
    float | None, typer.Option(help="Limit that E cannot cross [default: 0 falling, 1 rising].")
]


def chosen_options(
    loss: LossName,
    delta: float | None,
    residual: ResidualName | None,
    weights: WeightsName,
    hold: list[str] | None,
    *,
    hold_option: str = "--hold",
    **others: Any,
) -> FitOptions:
    """The fit options of a verb.

    Args:
        loss: as the verb's option.
        delta: as the verb's option.
        residual: as the verb's option.
        weights: as the verb's option.
        hold: texts NAME=VALUE.
        hold_option: the verb's name for them.
        others: fields of `FitOptions` that only some verbs offer.

    Raises:
        UserError: a number cannot be read, or the options contradict each other.
    """
    from analysis.fit import FitOptions

    return FitOptions(
        loss=loss.value,
        delta=delta,
        residual=residual.value if residual else None,
        weights=weights.value,
        fixed=parse_numbers(hold, hold_option),
        **others,
    )


def check_held(laws: Sequence[Law], options: FitOptions) -> None:
    """Check that each held parameter is one of a law's, for a verb that fits several laws.

    Raises:
        UserError: no law has it.
    """
    names = list(dict.fromkeys(name for law in laws for name in law.names))
    for name, value in options.fixed.items():
        if name not in names:
            raise UserError(f"--hold {name}={value:g}: no law has it{nearest(name, names)}")
