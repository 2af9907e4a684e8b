"""From rows of a store to the batches of a run: which rows, in which order, packed or single.

Not here: optimisers and steps (`scaling.training`).
"""

from scaling.batches.epoch import Epoch, find_groups
from scaling.batches.fixed_shapes import ANY_SHAPE, Shapes
from scaling.batches.gather import iterate_test, iterate_training
from scaling.batches.permutation import order_key
from scaling.batches.share import WHOLE, Share

__all__ = [
    "ANY_SHAPE",
    "WHOLE",
    "Epoch",
    "Shapes",
    "Share",
    "find_groups",
    "iterate_test",
    "iterate_training",
    "order_key",
]
