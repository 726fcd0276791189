"""Hyperparameters: from those of latent weights to a filter, back, and to start with.

translation    a latent recipe as a filter: filter_from_sgd
inverse        the latent recipe that a filter stands for: sgd_from_filter
suggestion     alpha, its decay and gamma from the length of training: suggest
schedules      arithmetic on rates that may be schedules
"""

from larq_filter.hyperparameters.inverse import sgd_from_filter
from larq_filter.hyperparameters.schedules import Scaled
from larq_filter.hyperparameters.suggestion import Suggestion, suggest
from larq_filter.hyperparameters.translation import (
    EXACT,
    INITIAL,
    NO_EFFECT,
    NOT_LINEAR,
    VELOCITIES,
    Counterpart,
    LatentSGD,
    Translation,
    filter_from_sgd,
)

__all__ = [
    "EXACT",
    "INITIAL",
    "NOT_LINEAR",
    "NO_EFFECT",
    "VELOCITIES",
    "Counterpart",
    "LatentSGD",
    "Scaled",
    "Suggestion",
    "Translation",
    "filter_from_sgd",
    "sgd_from_filter",
    "suggest",
]
