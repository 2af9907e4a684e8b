"""What `scaling plan` says of the analysis to come: what it could not tell, and how wide its intervals would be."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from scaling.documents import read_json

if TYPE_CHECKING:
    from pathlib import Path

    from sweeps.planning import Plan

__all__ = ["Outlook", "outlook_of"]


# The law that is assumed as long as a study has none of its own: that of the soft logloss in docs/studies/three-orders.md,
# whose noise of one run is the root of 0.0022^2 + 0.0031^2.
_ASSUMED = {"E": 0.388, "A": 6.0, "B": 1.41, "alpha": 0.76, "beta": 0.28}
_ASSUMED_SD = 0.0038
_LAW = "additive"


@dataclass(frozen=True)
class Outlook:
    """What can be known of an analysis before the runs.

    Attributes:
        limits: what it could not tell, a sentence each.
        half_widths: of the 95 % intervals of the exponents and of E; infinite if the grid cannot tell them.
        params: the law that is assumed.
        run_sd: the noise of one run that is assumed.
        basis: where law and noise come from.
    """

    limits: tuple[str, ...]
    half_widths: dict[str, float]
    params: dict[str, float]
    run_sd: float
    basis: str

    def lines(self) -> list[str]:
        """The outlook for people."""
        lines = [f"warning: {limit}" for limit in self.limits]
        known = {name: half for name, half in self.half_widths.items() if half < float("inf")}
        if known:
            widths = ", ".join(
                f"{n} {self.params[n]:.2g} ± {half:.2g}" for n, half in known.items()
            )
            lines.append(
                f"expected 95 % intervals, at least: {widths}; linearised, if E + A N^-alpha + B D^-beta and a noise of "
                f"{self.run_sd:.2g} of a run hold ({self.basis}); errors that cells share come on top"
            )
        wide = [n for n, half in known.items() if n != "E" and half >= self.params[n]]
        if wide:
            lines.append(
                f"warning: the interval of {' and '.join(wide)} would reach zero; add sizes at the ends of the grid, or seeds"
            )
        return lines

    def document(self) -> dict[str, Any]:
        """The outlook for programs; infinite widths are null."""
        widths = {n: half if half < float("inf") else None for n, half in self.half_widths.items()}
        return {**asdict(self), "limits": list(self.limits), "half_widths": widths}


def outlook_of(made: Plan, folder: Path) -> Outlook:
    """Return the outlook of a plan; of a grid with several variants, of the one that has the fewest runs.

    Args:
        made: the plan.
        folder: of the study's runs, in which `scaling report` keeps its fits.
    """
    import numpy as np

    from analysis.laws import build_law, expected_widths, limits_of_grid

    groups: dict[Any, list[tuple[float, float]]] = {}
    for cell in made.cells:
        sizes = (float(cell.size.n_params), float(cell.config.n_samples))
        groups.setdefault(_variant(cell.config), []).append(sizes)
    runs = np.array(min(groups.values(), key=len))
    law = build_law(_LAW)
    params, run_sd, basis = _assumption(folder)
    limits = limits_of_grid(runs, len(law.names))
    if len(groups) > 1:
        limits = [f"{limit} (of each of {len(groups)} variants)" for limit in limits]
    widths = expected_widths(law, params, runs, run_sd)
    return Outlook(tuple(limits), widths, params, run_sd, basis)


def _variant(config: Any) -> Any:
    """What cells of one law have in common: all but the sizes, the seed and what the recipe sets."""
    from scaling.study import RunConfig

    assert isinstance(config, RunConfig)
    teacher = config.distill and replace(config.distill, learning_rate=None)
    return (
        config.model,
        config.schedule,
        config.data_order,
        config.packing,
        config.precision,
        config.batch_schedule,
        teacher,
    )


def _assumption(folder: Path) -> tuple[dict[str, float], float, str]:
    """Law, noise and where they come from: the study's own fit if it has one, else that of the generated log."""
    for metric in ("soft_logloss", "logloss"):
        file = folder / "fits" / f"{metric}-joint.json"
        try:
            fit = read_json(file)
            noise, params = fit["noise"], {name: float(fit["params"][name]) for name in _ASSUMED}
            run_sd = math.hypot(float(noise["sd"]), float(noise["run_sd"]))
            if not all(map(math.isfinite, (*params.values(), run_sd))):
                continue
            is_known = fit["status"] == "converged" and fit["law"]["name"] == _LAW
            if is_known and isinstance(fit["n_points"], int):
                return (
                    params,
                    run_sd,
                    f"as fitted to {fit['n_points']} runs of this study, {metric}",
                )
        except (OSError, ValueError, KeyError, TypeError):  # none yet, or of another version
            continue
    return (
        dict(_ASSUMED),
        _ASSUMED_SD,
        "as on the generated log of docs/studies/three-orders.md; no fit of this study yet",
    )
