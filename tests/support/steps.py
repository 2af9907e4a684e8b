"""Bounds of the steps of an epoch with a fixed batch size."""

import numpy as np


def step_ends(n_samples, batch_size):
    """Samples seen after each step [n_steps]."""
    return np.minimum(np.arange(batch_size, n_samples + batch_size, batch_size), n_samples)
