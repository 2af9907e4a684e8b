"""How the state of a sweep is shown: once, as lines, and as a live view with the law so far.

Not here: the states themselves (`sweeps.status`), the time to go (`sweeps.time_to_go`).
"""

from scaling.cli.sweep.status_views.status_text import print_status_json, status_parts
from scaling.cli.sweep.status_views.watch_loop import SECONDS_BETWEEN_QUERIES, watch_study

__all__ = ["SECONDS_BETWEEN_QUERIES", "print_status_json", "status_parts", "watch_study"]
