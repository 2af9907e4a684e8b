"""Budgets: cost of a run, allocation of a budget, IsoFLOP profiles, the cells that would narrow an interval most.

Not here: fitting, what more of each size buys, comparing variants (`analysis.gain`).
"""

from analysis.budget.allocation import Allocation, Gain, allocate, gain_of, iso_cost, iso_loss
from analysis.budget.approach_table import Approach, envelope, exponents_of_law, three_approaches
from analysis.budget.best_split import cheapest, check_terms, frontier
from analysis.budget.budget_profile import Profile
from analysis.budget.cost import Cost, SizeCost, Unit, read_cost, read_size_cost
from analysis.budget.further_cells import next_cells, with_advice
from analysis.budget.isoflop_fit import IsoFlop, PowerLaw, isoflop
from analysis.budget.pursuit_look import goal_text
from analysis.budget.round_choice import PursuitUnit, check_goal, next_round

__all__ = [
    "Allocation",
    "Approach",
    "Cost",
    "Gain",
    "IsoFlop",
    "PowerLaw",
    "Profile",
    "PursuitUnit",
    "SizeCost",
    "Unit",
    "allocate",
    "cheapest",
    "check_goal",
    "check_terms",
    "envelope",
    "exponents_of_law",
    "frontier",
    "gain_of",
    "goal_text",
    "iso_cost",
    "iso_loss",
    "isoflop",
    "next_cells",
    "next_round",
    "read_cost",
    "read_size_cost",
    "three_approaches",
    "with_advice",
]
