"""Comparisons: methods times seeds on the same data and budget.

jobs         the runs, and who makes which of them
settings     hyperparameters by data set and method
summaries    means, spread, differences, curves
report       tables for people, rows of files for programs
"""

from larq_filter.experiments.comparison.jobs import Comparison, Job, Outcome, make_jobs
from larq_filter.experiments.comparison.settings import Setting, choose_methods, load_settings

__all__ = [
    "Comparison",
    "Job",
    "Outcome",
    "Setting",
    "choose_methods",
    "load_settings",
    "make_jobs",
]
