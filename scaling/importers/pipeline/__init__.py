"""The steps of an import in DuckDB: read, select rows, build vocabularies, draw negatives, sort, write.

Not here: anything that is true of one data set only (`scaling.importers.datasets`).
"""

from scaling.importers.pipeline.engine import Limits, Report
from scaling.importers.pipeline.importing import import_log

__all__ = ["Limits", "Report", "import_log"]
