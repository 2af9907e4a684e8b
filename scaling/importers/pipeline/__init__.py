"""The steps of an import in DuckDB: read files, parse cells, select rows, build vocabularies, draw negatives, write.

`importing.py` calls the steps in this order; `sharded` calls them in jobs. Not here: anything specific to one data set (`scaling.importers.datasets`).
"""

from scaling.importers.pipeline.engine import Limits, Report
from scaling.importers.pipeline.importing import import_log
from scaling.importers.pipeline.sharded import (
    ShardedImport,
    Workers,
    count_done,
    import_in_shards,
    local_workers,
    work_off,
)

__all__ = [
    "Limits",
    "Report",
    "ShardedImport",
    "Workers",
    "count_done",
    "import_in_shards",
    "import_log",
    "local_workers",
    "work_off",
]
