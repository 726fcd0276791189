"""Which knobs a trial gets."""

import zlib

import numpy as np

from larq_filter.sweeps import _optuna
from larq_filter.sweeps.spaces import Choices, Range


def sampler(seed: int):
    """Optuna's TPE, multivariate, whose random numbers are those of the trial's number.

    A sampler seeded once for each process would draw the same numbers in each, or need to know how
    many processes there are; and an interrupted study would not go on as it would have.
    """
    samplers = _optuna.load().samplers

    class Sampler(samplers.BaseSampler):
        def __init__(self):
            self.space = samplers.TPESampler(multivariate=True)  # it remembers the trials it saw

        def infer_relative_search_space(self, study, trial):
            return self.space.infer_relative_search_space(study, trial)

        def sample_relative(self, study, trial, search_space):
            return self._tpe(trial).sample_relative(study, trial, search_space)

        def sample_independent(self, study, trial, param_name, param_distribution):
            tpe = self._tpe(trial, zlib.crc32(param_name.encode()))
            return tpe.sample_independent(study, trial, param_name, param_distribution)

        def _tpe(self, trial, *more):
            entropy = np.random.SeedSequence([seed, trial.number, *more])
            number = int(entropy.generate_state(1)[0])
            return samplers.TPESampler(multivariate=True, seed=number)

    return Sampler()


def suggest(trial, name: str, part: Range | Choices):
    """The value of one knob for a trial."""
    if isinstance(part, Choices):
        return trial.suggest_categorical(name, part.values)
    draw = trial.suggest_int if part.whole else trial.suggest_float
    return part.legible(draw(name, part.low, part.high, log=part.log))
