"""Numbers for people: thousands separators, powers of ten as 10⁵, no negative zero."""

import math
import re

import numpy as np

from scaling.arrays import FloatArray

__all__ = ["decimals_of", "number", "percent", "readable", "to_decimals"]


_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
_POWER = re.compile(r"(?<![\w.-])(-?\d+(?:\.\d+)?)e([+-]?\d+)(?!\w)")
# A number without an integer part must be at least this for plain digits.
_LEAST_PLAIN = 1e-4
_MOST_PLAIN = 1e12
_MOST_DECIMALS = 8


def number(value: float, digits: int = 4) -> str:
    """Format a number with so many significant digits and thousands separators; a dash for NaN and infinity."""
    if not math.isfinite(value):
        return "–"
    if float(value).is_integer() and abs(value) < _MOST_PLAIN:
        return f"{int(value):,}"
    if not _LEAST_PLAIN <= abs(value) < _MOST_PLAIN:
        return readable(f"{value:.{max(digits - 1, 1)}e}")
    decimals = max(digits - 1 - math.floor(math.log10(abs(value))), 0)
    rounded_off = round(value, digits - 1 - math.floor(math.log10(abs(value))))
    return f"{rounded_off:,.{decimals}f}"


def decimals_of(errors: FloatArray) -> int:
    """Decimals that show two digits of the typical standard error; 5 without one."""
    known = errors[np.isfinite(errors) & (errors > 0)]
    return int(1 - np.floor(np.log10(np.median(known)))) if len(known) else 5


def to_decimals(value: float, decimals: int) -> str:
    """Format a number to a decimal place; very large and small ones with a power of ten, a dash for NaN and infinity."""
    if not math.isfinite(value):
        return "–"
    if -3 <= decimals <= _MOST_DECIMALS:
        return _without_negative_zero(f"{round(value, decimals):,.{max(decimals, 0)}f}")
    return readable(f"{value:.3e}")


def percent(value: float, *, sign: bool = False, digits: int = 2) -> str:
    """Format a share as a percentage; a dash for NaN and infinity."""
    if not math.isfinite(value):
        return "–"
    text = f"{value:+.{digits}%}" if sign else f"{value:.{digits}%}"
    return text.lstrip("+-") if not float(text.rstrip("%")) else text


def readable(text: str) -> str:
    """Return a text whose powers of ten are written out: `1.49e+15` is `1.49 × 10¹⁵`, `7.69e+03` is `7,690`."""
    return _POWER.sub(_power, text)


def _power(match: re.Match[str]) -> str:
    mantissa, exponent = match[1], int(match[2])
    if 0 <= exponent < 6:
        return f"{float(f'{mantissa}e{exponent}'):,.15g}"
    return f"{mantissa} × 10{str(exponent).translate(_SUPERSCRIPTS)}"


def _without_negative_zero(text: str) -> str:
    return text[1:] if text.startswith("-") and not text.strip("-0.,") else text
