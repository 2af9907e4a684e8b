"""The kinds of models that a study can train: SUAN, LightSUAN, the baselines, and classes from elsewhere.

The face works without torch, which is imported where a kind other than SUAN occurs. `models.kinds.building`, which builds
a model, is imported by name. Not here: the encoders themselves (`models.suan`, `models.baselines`), their protocol
(`models.encoder`).
"""

from models.kinds.class_sources import syntax_text
from models.kinds.known_kinds import (
    KINDS,
    ModelError,
    check_model,
    counted_size,
    encoder_class,
    exact_packing,
    former_options,
    measured_flops,
    options_of,
    options_type,
    own_sources,
    read_options,
    size_of,
    takes_batch_statistics,
)

__all__ = [
    "KINDS",
    "ModelError",
    "check_model",
    "counted_size",
    "encoder_class",
    "exact_packing",
    "former_options",
    "measured_flops",
    "options_of",
    "options_type",
    "own_sources",
    "read_options",
    "size_of",
    "syntax_text",
    "takes_batch_statistics",
]
