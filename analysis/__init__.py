"""Evaluation of the runs: the runs table, laws and their fits with intervals, budgets, figures and the report.

Needs no torch and takes any table. Not here: anything that starts a run.
"""
