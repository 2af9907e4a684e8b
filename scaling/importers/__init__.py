"""Raw logs imported into event stores: one module per data set in `datasets`, the shared steps in `pipeline`.

A module in `datasets` declares what the files hold (`declaration.Log`). The pipeline reads and checks each cell
(null texts: `pipeline/cell_parsing.py`), selects rows, builds vocabularies, sorts and writes.
Not here: the store's format (`scaling.store`).
"""

from scaling.importers.catalogue import IMPORTERS, import_logs

__all__ = ["IMPORTERS", "import_logs"]
