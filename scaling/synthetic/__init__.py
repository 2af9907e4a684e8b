"""Generated logs with exactly known click probabilities.

Not here: the format in which they are stored (`scaling.store`).
"""

from scaling.synthetic.expected_log import expected_shape
from scaling.synthetic.logs import (
    GENERATOR_VERSION,
    SyntheticConfig,
    generate_logs,
    synthetic_schema,
)

__all__ = [
    "GENERATOR_VERSION",
    "SyntheticConfig",
    "expected_shape",
    "generate_logs",
    "synthetic_schema",
]
