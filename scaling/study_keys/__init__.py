"""What a study file may hold, as the code itself says: each key with its type, default, valid values and meaning.

A commented study file and docs/study-file.md are made of the same descriptions. Also the grid that suits a data set, and where
each value of a study comes from.

Not here: reading and checking a study file (`scaling.study`), printing (`scaling.cli`).
"""

from scaling.study_keys.commented_file import commented_study, toml_value
from scaling.study_keys.described_keys import Key, Section, described_sections, kind_sections
from scaling.study_keys.fitted_grid import FittedGrid, fit_grid
from scaling.study_keys.resolved_cell import settings_of_cell
from scaling.study_keys.value_origins import Setting, flat, key_lines, settings_of

__all__ = [
    "FittedGrid",
    "Key",
    "Section",
    "Setting",
    "commented_study",
    "described_sections",
    "fit_grid",
    "flat",
    "key_lines",
    "kind_sections",
    "settings_of",
    "settings_of_cell",
    "toml_value",
]
