"""Whether the data in a valid store are good: leaks, duplicates, suspicious features; summaries and a picture.

Not here: the rules of the store's format (`scaling.store`).
"""

from scaling.audit.findings import Audit, audit_store
from scaling.audit.picture import plot_store
from scaling.audit.summary import summarize_store

__all__ = ["Audit", "audit_store", "plot_store", "summarize_store"]
