"""Safe file names for labels that contain a user's words: fits, figures and variants."""

from collections import Counter
from collections.abc import Iterable
from hashlib import sha256

__all__ = ["FIGURE_BYTES", "file_names"]


# Limit for the name of a fit or a figure. With the variant's name it must stay under 255 bytes.
FIGURE_BYTES = 120

_DIGITS = 8


def file_names(labels: Iterable[str], limit: int) -> dict[str, str]:
    """Return for each label a part of a file name; distinct labels get distinct names.

    A label that is too long is cut. It then ends with a digest, and so does one whose name would equal
    another label's, upper or lower case aside.

    Args:
        labels: any text.
        limit: of each name, in bytes.
    """
    slugs = {
        label: "".join(c if c.isalnum() or c in "._-" else "_" for c in label) for label in labels
    }
    alike = Counter(slug.casefold() for slug in slugs.values())
    names = {}
    for label, slug in slugs.items():
        if len(slug.encode()) > limit or alike[slug.casefold()] > 1:
            start = slug.encode()[: limit - _DIGITS - 1].decode(errors="ignore")
            slug = f"{start}-{sha256(label.encode()).hexdigest()[:_DIGITS]}"
        names[label] = slug
    return names
