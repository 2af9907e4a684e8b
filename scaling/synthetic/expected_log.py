"""The sizes of a log before it is generated, for the costs of a plan."""

import math

from scaling.store import LogShape
from scaling.synthetic.logs import SyntheticConfig
from scaling.synthetic.users import BETWEEN, CANDIDATES, REQUESTS

__all__ = ["expected_shape"]


# the normal distribution's quantiles; events before the first request are log-normal with sigma = 1, at most 5 medians
_NORMAL = {"p10": -1.2816, "p25": -0.6745, "p50": 0.0, "p75": 0.6745, "p90": 1.2816}
_MOST_WARMUPS = 5


def expected_shape(config: SyntheticConfig) -> LogShape:
    """Return about the sizes of the log of `config`."""
    n_requests = sum(REQUESTS) / 2
    # requests are a user's first to last one; users with many requests have more impressions
    before = BETWEEN * n_requests / 2
    median = config.warmup_events
    quantiles = {name: median * math.exp(z) + before for name, z in _NORMAL.items()}
    longest = _MOST_WARMUPS * median
    mean_warmup = sum(min(longest, median * math.exp(z)) for z in _NORMAL.values()) / len(_NORMAL)
    return LogShape(
        history_quantiles={
            "min": 0.0,
            **quantiles,
            "max": longest + BETWEEN * (REQUESTS[1] - 1.0),
        },
        per_request=sum(CANDIDATES) / 2,
        requests_per_user=n_requests,
        events_per_user=mean_warmup + BETWEEN * (n_requests - 1),
    )
