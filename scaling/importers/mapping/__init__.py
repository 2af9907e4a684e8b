"""The TOML of `scaling data import table`: its sections and keys, and SQL for the columns that it names.

Not here: the log that follows from it (`scaling.importers.datasets.any_table`).
"""

from scaling.importers.mapping.column_sql import (
    SectionColumns,
    column_of,
    condition_sql,
    feature_sql,
    filled_sql,
    given_test_sql,
    history_sql,
    label_sql,
    list_feature,
    number_sql,
)
from scaling.importers.mapping.feature_names import TIME_FEATURES, check_features
from scaling.importers.mapping.file_sections import EventsSection, FilesSection, ImpressionsSection
from scaling.importers.mapping.number_columns import event_number, event_numbers
from scaling.importers.mapping.table_file import TableFile, read_table_file

__all__ = [
    "TIME_FEATURES",
    "EventsSection",
    "FilesSection",
    "ImpressionsSection",
    "SectionColumns",
    "TableFile",
    "check_features",
    "column_of",
    "condition_sql",
    "event_number",
    "event_numbers",
    "feature_sql",
    "filled_sql",
    "given_test_sql",
    "history_sql",
    "label_sql",
    "list_feature",
    "number_sql",
    "read_table_file",
]
