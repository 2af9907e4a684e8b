"""Generated logs whose click probabilities are known exactly.

Not here: the format they are stored in (`scaling.store`).
"""

from scaling.synthetic.logs import (
    GENERATOR_VERSION,
    SyntheticConfig,
    generate_logs,
    synthetic_schema,
)

__all__ = ["GENERATOR_VERSION", "SyntheticConfig", "generate_logs", "synthetic_schema"]
