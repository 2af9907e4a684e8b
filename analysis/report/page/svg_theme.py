"""Drawings inside a page: unique ids, and colours that follow the page's light or dark theme."""

import colorsys
import re
from collections.abc import Iterable

__all__ = ["contrast", "dark_colour", "inline_svg"]


# The page's backgrounds, as in page.css.
LIGHT, DARK = "#ffffff", "#14181f"
_DARK_INK = "#e4e8ee"
_START = re.compile(r"^.*?(?=<svg\b)", re.DOTALL)
_METADATA = re.compile(r"<metadata>.*?</metadata>\s*", re.DOTALL)
_ID = re.compile(r'(\bid="|url\(#|href="#)')
_COLOUR = re.compile(r"#[0-9a-f]{6}\b")
_STYLE = re.compile(r'(?<=style=")[^"]*(?=")')
_SIZE = re.compile(r'\s(?:width|height)="[\d.]+pt"')
# What has this contrast on white keeps it on the dark background.
_LEAST_CONTRAST = 3.0


def inline_svg(svg: str, prefix: str) -> tuple[str, set[str]]:
    """Return a drawing for use within a page, and its colours as hex codes.

    Args:
        svg: a document that matplotlib has written.
        prefix: of its ids, so that no two drawings share one.
    """
    text = _METADATA.sub("", _START.sub("", svg, count=1))
    head, rest = text.split(">", 1)
    head = _SIZE.sub("", head)
    text = _ID.sub(rf"\g<1>{prefix}-", f"{head}>{rest}").replace("xlink:href", "href")
    colours: set[str] = set()

    def themed(style: re.Match[str]) -> str:
        found = _COLOUR.findall(style[0])
        colours.update(found)
        return _COLOUR.sub(lambda colour: f"var(--k{colour[0][1:]})", style[0])

    return _STYLE.sub(themed, text).strip(), colours


def dark_colour(colour: str) -> str:
    """Return the colour that takes a colour's place on the dark background: its lightness is inverted, its hue stays.

    Args:
        colour: hex code, e.g. `#0072b2`.
    """
    hue, lightness, saturation = colorsys.rgb_to_hls(*_rgb(colour))
    if not saturation:  # greys lie between the page's own ink and its background
        ends = zip(_rgb(DARK), _rgb(_DARK_INK), strict=True)
        return _hex(tuple(low + (1.0 - lightness) * (high - low) for low, high in ends))
    ground = colorsys.rgb_to_hls(*_rgb(DARK))[1]
    turned = ground + (1.0 - lightness) * (0.93 - ground)
    found = _hex(colorsys.hls_to_rgb(hue, turned, saturation))
    while (
        contrast(colour, LIGHT) >= _LEAST_CONTRAST > contrast(found, DARK) and turned < 0.95
    ):  # bluish colours are darker than their lightness says
        turned += 0.02
        found = _hex(colorsys.hls_to_rgb(hue, turned, saturation))
    return found


def contrast(one: str, other: str) -> float:
    """Return the contrast ratio of two colours, 1 to 21 (WCAG 2.2, relative luminance)."""
    light, dark = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def _luminance(colour: str) -> float:
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in _rgb(colour)]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def _rgb(colour: str) -> tuple[float, float, float]:
    red, green, blue = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
    return red, green, blue


def _hex(rgb: Iterable[float]) -> str:
    return "#" + "".join(f"{round(255 * c):02x}" for c in rgb)
