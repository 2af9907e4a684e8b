"""The runs table: one row per run, from a study's folder or any CSV; its columns, cells and variants.

Not here: laws and fits.
"""

from analysis.table.cell_means import Cells, cell_table, check_runs
from analysis.table.collect import RUN_COLUMNS, TEACHER_COLUMNS, runs_table, write_table
from analysis.table.columns import (
    check_sizes,
    default_metrics,
    grade_column,
    require_columns,
    sized_rows,
)
from analysis.table.csv_reader import read_table
from analysis.table.curves import CURVE_COLUMNS, curves_table
from analysis.table.days import DAY_COLUMNS, days_table
from analysis.table.directions import direction, falls_with, rises
from analysis.table.labels import LABELS, Size, first_few, size_label, size_of, sizes_text
from analysis.table.places import header_of, is_foreign, place_of, source_of
from analysis.table.settings_in_cells import (
    SETTINGS,
    BestSettings,
    best_settings,
    differing_settings,
    possible_sizes,
)
from analysis.table.variants import (
    describe_differences,
    describe_variants,
    distinguishing_columns,
    largest_variant,
    law_columns,
    plain_columns,
    split_variants,
    value_text,
    variant_columns,
    variant_label,
)

__all__ = [
    "CURVE_COLUMNS",
    "DAY_COLUMNS",
    "LABELS",
    "RUN_COLUMNS",
    "SETTINGS",
    "TEACHER_COLUMNS",
    "BestSettings",
    "Cells",
    "Size",
    "best_settings",
    "cell_table",
    "check_runs",
    "check_sizes",
    "curves_table",
    "days_table",
    "default_metrics",
    "describe_differences",
    "describe_variants",
    "differing_settings",
    "direction",
    "distinguishing_columns",
    "falls_with",
    "first_few",
    "grade_column",
    "header_of",
    "is_foreign",
    "largest_variant",
    "law_columns",
    "place_of",
    "plain_columns",
    "possible_sizes",
    "read_table",
    "require_columns",
    "rises",
    "runs_table",
    "size_label",
    "size_of",
    "sized_rows",
    "sizes_text",
    "source_of",
    "split_variants",
    "value_text",
    "variant_columns",
    "variant_label",
    "write_table",
]
