"""What the verbs on laws read: the table, the rows to fit, and the options of a fit.

Not here: the verbs (`scaling.cli.laws`).
"""

from scaling.cli.fit_inputs.default_law import law_of_table, need_both
from scaling.cli.fit_inputs.fit_option_types import (
    BestOf,
    BootstrapSeed,
    Delta,
    Embeddings,
    Hold,
    LimitOfE,
    Loss,
    Residual,
    Rising,
    Weights,
    check_held,
    chosen_options,
)
from scaling.cli.fit_inputs.fit_rows import (
    direction_for,
    metrics_of,
    one_variant,
    refuse_law_of_metric,
    rows_of_law,
    rows_to_fit,
    size_columns,
)
from scaling.cli.fit_inputs.law_choices import (
    CutName,
    FigureKind,
    IntervalName,
    JointLaw,
    LawName,
    LossName,
    ResidualName,
    SizeLaw,
    WeightsName,
)
from scaling.cli.fit_inputs.missing_columns import check_size_columns
from scaling.cli.fit_inputs.sources import (
    Loaded,
    choices,
    is_number,
    load_table,
    load_tables,
    matching,
    parse_sizes,
    whole_numbers,
)

__all__ = [
    "BestOf",
    "BootstrapSeed",
    "CutName",
    "Delta",
    "Embeddings",
    "FigureKind",
    "Hold",
    "IntervalName",
    "JointLaw",
    "LawName",
    "LimitOfE",
    "Loaded",
    "Loss",
    "LossName",
    "Residual",
    "ResidualName",
    "Rising",
    "SizeLaw",
    "Weights",
    "WeightsName",
    "check_held",
    "check_size_columns",
    "choices",
    "chosen_options",
    "direction_for",
    "is_number",
    "law_of_table",
    "load_table",
    "load_tables",
    "matching",
    "metrics_of",
    "need_both",
    "one_variant",
    "parse_sizes",
    "refuse_law_of_metric",
    "rows_of_law",
    "rows_to_fit",
    "size_columns",
    "whole_numbers",
]
