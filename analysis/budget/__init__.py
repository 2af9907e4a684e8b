"""Budgets: cost of a run, allocation of a budget, what more of each size buys, compute-equivalent gains of variants, IsoFLOP profiles, the cells that would narrow an interval most.

Not here: fitting.
"""

from analysis.budget.allocation import Allocation, allocate, iso_cost, iso_loss
from analysis.budget.approach_table import Approach, envelope, exponents_of_law, three_approaches
from analysis.budget.best_split import cheapest, frontier
from analysis.budget.budget_profile import Profile
from analysis.budget.compute_gain import (
    ComputeGains,
    Crossing,
    GainAt,
    VariantLaw,
    compute_gains,
)
from analysis.budget.cost import Cost, Unit, read_cost
from analysis.budget.further_cells import next_cells, with_advice
from analysis.budget.isoflop_fit import IsoFlop, PowerLaw, isoflop
from analysis.budget.pursuit_look import goal_text
from analysis.budget.round_choice import PursuitUnit, check_goal, next_round
from analysis.budget.size_gains import GainsFrom, gains

__all__ = [
    "Allocation",
    "Approach",
    "ComputeGains",
    "Cost",
    "Crossing",
    "GainAt",
    "GainsFrom",
    "IsoFlop",
    "PowerLaw",
    "Profile",
    "PursuitUnit",
    "Unit",
    "VariantLaw",
    "allocate",
    "cheapest",
    "check_goal",
    "compute_gains",
    "envelope",
    "exponents_of_law",
    "frontier",
    "gains",
    "goal_text",
    "iso_cost",
    "iso_loss",
    "isoflop",
    "next_cells",
    "next_round",
    "read_cost",
    "three_approaches",
    "with_advice",
]
