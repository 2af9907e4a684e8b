"""Raw logs into event stores: one module per data set in `datasets`, the shared steps in `pipeline`.

An importer declares what its files hold (`declaration.Log`); the pipeline reads, checks, sorts and writes.
Not here: the store's format (`scaling.store`).
"""

from scaling.importers.catalogue import IMPORTERS, import_logs

__all__ = ["IMPORTERS", "import_logs"]
