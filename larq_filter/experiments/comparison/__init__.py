"""Comparisons: methods times seeds on the same data and budget.

jobs         the runs, and who makes which of them
recipes      hyperparameters by data set and method
summaries    means, spread, differences, curves
report       tables for people, rows of files for programs
"""

from larq_filter.experiments.comparison.jobs import Comparison, Job, Outcome, duration, make_jobs
from larq_filter.experiments.comparison.recipes import Recipe, choose_methods, load_recipes

__all__ = [
    "Comparison",
    "Job",
    "Outcome",
    "Recipe",
    "choose_methods",
    "duration",
    "load_recipes",
    "make_jobs",
]
