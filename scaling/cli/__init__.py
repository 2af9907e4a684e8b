"""The command line: options in, text out; it alone may import everything, and only inside a verb.

`sweep` has the verbs on studies, `laws` those on finished runs and tables, `data` those on event stores.
Not here: rules that Python users need too.
"""

from scaling.cli.entry import main

__all__ = ["main"]
