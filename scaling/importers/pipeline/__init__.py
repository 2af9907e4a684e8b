"""The steps of an import in DuckDB: read files, parse cells, select rows, build vocabularies, draw negatives, write.

`importing.py` calls the steps in this order. Not here: anything specific to one data set (`scaling.importers.datasets`).
"""

from scaling.importers.pipeline.engine import Limits, Report
from scaling.importers.pipeline.importing import import_log

__all__ = ["Limits", "Report", "import_log"]
