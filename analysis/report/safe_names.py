"""Names of files for what a user named: fits, figures and variants."""

from collections import Counter
from collections.abc import Iterable
from hashlib import sha256

__all__ = ["FIGURE_BYTES", "file_names"]


# Of a fit's or a figure's name; a file system takes 255 in all, a variant's among them.
FIGURE_BYTES = 120

_DIGITS = 8


def file_names(labels: Iterable[str], limit: int) -> dict[str, str]:
    """Return each label as a part of a file's name of at most `limit` bytes; distinct labels differ.

    A long one is cut, and one that another label would be taken for is marked: both end with a digest.
    """
    slugs = {
        label: "".join(c if c.isalnum() or c in "._-" else "_" for c in label) for label in labels
    }
    alike = Counter(slug.casefold() for slug in slugs.values())
    names = {}
    for label, slug in slugs.items():
        if len(slug.encode()) > limit or alike[slug.casefold()] > 1:
            kept = slug.encode()[: limit - _DIGITS - 1].decode(errors="ignore")
            slug = f"{kept}-{sha256(label.encode()).hexdigest()[:_DIGITS]}"
        names[label] = slug
    return names
