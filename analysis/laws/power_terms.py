"""Laws declared by their terms: the formula, values, derivatives and change of origin follow."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import ClassVar

import numpy as np

from analysis.laws.base import Basis, Law, Shape
from scaling.arrays import FloatArray

__all__ = ["EffectiveSizes", "SumOfPowers", "Term"]


# Log sizes, and their non-zero derivatives by (size, shape parameter).
EffectiveSizes = tuple[Sequence[FloatArray], dict[tuple[int, int], FloatArray]]


@dataclass(frozen=True)
class Term:
    """An amplitude times powers of sizes, e.g. G N^-alpha D^-beta.

    Attributes:
        amplitude: name of the amplitude.
        powers: by size, the name of its exponent; the term falls as the size grows.
    """

    amplitude: str
    powers: Mapping[str, str]

    def __str__(self) -> str:
        return " ".join([self.amplitude, *(f"{size}^-{e}" for size, e in self.powers.items())])


@dataclass(frozen=True)
class SumOfPowers(Law):
    """A law that is a sum of terms: y = E +- sum_j A_j prod_i size_i^-exponent_ij.

    A subclass declares `name` and `terms`. These attributes follow, unless it declares them too:
        formula: the terms in order.
        variables: the sizes in order of appearance, then `ratios`.
        amplitudes: one for each term.
        shapes: the exponents in order of appearance, each with the default range.

    If a term holds a size that is not a variable itself, e.g. effective data, the law also declares
    `formula` and `shapes`, and computes its sizes in `effective_sizes`. A size with the name of a
    variable must be proportional to that variable; any other size must have no unit.
    """

    terms: ClassVar[tuple[Term, ...]]
    # For each size in order of appearance, its index in `variables`; None if the law computes its sizes.
    _order: ClassVar[tuple[int, ...] | None]
    # For each term, (index of the size, index of the exponent in `shapes`) for each of its powers.
    _powers: ClassVar[tuple[tuple[tuple[int, int], ...], ...]]
    # For each term, the earlier terms whose powers multiply to its own.
    _factors: ClassVar[tuple[tuple[int, ...], ...]]

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if "terms" not in vars(cls):
            return
        powers = [pair for term in cls.terms for pair in term.powers.items()]
        sizes = list(dict.fromkeys(size for size, _ in powers))
        exponents = dict.fromkeys(exponent for _, exponent in powers)
        defaults = {
            "formula": "E ± " + " ± ".join(map(str, cls.terms)),
            "variables": (*sizes, *cls.ratios),
            "amplitudes": tuple(term.amplitude for term in cls.terms),
            "shapes": tuple(Shape(exponent) for exponent in exponents),
        }
        for attribute, value in defaults.items():
            if attribute not in vars(cls):
                setattr(cls, attribute, value)
        _check(cls, sizes, list(exponents))
        computes = cls.effective_sizes is not SumOfPowers.effective_sizes
        cls._order = None if computes else tuple(cls.variables.index(size) for size in sizes)
        names = [shape.name for shape in cls.shapes]
        cls._powers = tuple(
            tuple((sizes.index(size), names.index(e)) for size, e in term.powers.items())
            for term in cls.terms
        )
        cls._factors = tuple(_factors(cls._powers, j) for j in range(len(cls.terms)))

    def effective_sizes(self, logs: Sequence[FloatArray], shape: FloatArray) -> EffectiveSizes:
        """Compute the log sizes that the terms hold: by default those of the variables.

        Args:
            logs: one (n,) array of log sizes for each of `variables`.
            shape: (P, K).

        Returns:
            An array (n,) or (P, n) for each size in order of appearance in `terms`, and arrays (P, n)
            of derivatives by (size, shape parameter).
        """
        assert self._order is not None
        return [logs[i] for i in self._order], {}

    def basis(self, logs: Sequence[FloatArray], shape: FloatArray) -> Basis:
        """See `Law.basis`."""
        sizes, moves = self.effective_sizes(logs, shape)
        rates = -shape
        phi: list[FloatArray] = []
        slopes: dict[tuple[int, int], FloatArray] = {}
        for j, powers in enumerate(self._powers):
            if self._factors[j]:
                # A product costs less than another exponential.
                value = reduce(np.multiply, [phi[i] for i in self._factors[j]])
            else:
                (i, k), *others = powers
                value = rates[:, k : k + 1] * sizes[i]
                for i, k in others:
                    value += rates[:, k : k + 1] * sizes[i]
                np.exp(value, out=value)
            phi.append(value)
            for i, k in powers:
                _add(slopes, (j, k), -sizes[i] * value)
                for (size, by), move in moves.items():
                    if size == i:
                        _add(slopes, (j, by), rates[:, k : k + 1] * move * value)
        return phi, slopes

    def rebased(self, theta: FloatArray, origin: Sequence[float]) -> FloatArray:
        """See `Law.rebased`."""
        column = {name: i for i, name in enumerate(self.names)}
        shift = dict(zip(self.variables, origin, strict=True))
        moved = theta.copy()
        for term in self.terms:
            moved[:, column[term.amplitude]] += sum(
                theta[:, column[exponent]] * shift[size]
                for size, exponent in term.powers.items()
                if size in shift
            )
        for shape in self.shapes:
            if shape.unit:
                moved[:, column[shape.name]] += shift[shape.unit]
        return moved


def _check(law: type[SumOfPowers], sizes: Sequence[str], exponents: Sequence[str]) -> None:
    """Check that the attributes of a law agree with its terms.

    Raises:
        TypeError: they do not; with another order or a misspelt name, fits would be silently wrong.
    """
    names = [shape.name for shape in law.shapes]
    problem = None
    if not all(term.powers for term in law.terms):
        problem = "a term has no powers"
    elif len(set(law.amplitudes)) < len(law.amplitudes):
        problem = f"an amplitude is used twice: {', '.join(law.amplitudes)}"
    elif law.amplitudes != tuple(term.amplitude for term in law.terms):
        problem = (
            f"amplitudes are {', '.join(law.amplitudes)}, expected those of the terms, in order"
        )
    elif missing := [name for name in exponents if name not in names]:
        problem = f"exponent {missing[0]} is not one of the shapes {', '.join(names)}"
    elif law.effective_sizes is SumOfPowers.effective_sizes:
        if unknown := [size for size in sizes if size not in law.variables]:
            problem = f"size {unknown[0]} is not one of the variables {', '.join(law.variables)}"
        elif law.basis is SumOfPowers.basis and (
            unused := [n for n in names if n not in exponents]
        ):
            problem = f"shape {unused[0]} is in no term"
    if problem is not None:
        raise TypeError(f"{law.__name__}: {problem}")


def _factors(powers: Sequence[tuple[tuple[int, int], ...]], j: int) -> tuple[int, ...]:
    """Earlier terms whose product is term j without its amplitude; empty if there are none."""
    inside = [i for i in range(j) if set(powers[i]) < set(powers[j])]
    found = sorted(power for i in inside for power in powers[i])
    return tuple(inside) if found == sorted(powers[j]) else ()


def _add(
    slopes: dict[tuple[int, int], FloatArray], key: tuple[int, int], slope: FloatArray
) -> None:
    slopes[key] = slopes[key] + slope if key in slopes else slope
