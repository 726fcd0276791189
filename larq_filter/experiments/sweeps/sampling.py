"""Which knobs a trial gets."""

import zlib

import numpy as np

from larq_filter.experiments.sweeps import _optuna
from larq_filter.experiments.sweeps.spaces import Choices, Range


def sampler(seed: int):
    """Optuna's TPE, multivariate, whose random numbers are those of the trial's place.

    A sampler seeded once for each process would draw the same numbers in each, or need to know how
    many processes there are; and an interrupted study would not go on as it would have. For that
    repeats of trials don't count either.
    """
    samplers = _optuna.load().samplers

    class Sampler(samplers.BaseSampler):
        def __init__(self):
            self.space = samplers.TPESampler(multivariate=True)  # it remembers the trials it saw

        def infer_relative_search_space(self, study, trial):
            return self.space.infer_relative_search_space(study, trial)

        def sample_relative(self, study, trial, search_space):
            return self._tpe(study, trial).sample_relative(study, trial, search_space)

        def sample_independent(self, study, trial, param_name, param_distribution):
            tpe = self._tpe(study, trial, zlib.crc32(param_name.encode()))
            return tpe.sample_independent(study, trial, param_name, param_distribution)

        def _tpe(self, study, trial, *more):
            entropy = np.random.SeedSequence([seed, place(study, trial), *more])
            number = int(entropy.generate_state(1)[0])
            return samplers.TPESampler(multivariate=True, seed=number)

    return Sampler()


def place(study, trial) -> int:
    """The number that a trial would have if no trial before it had been repeated."""
    callback = _optuna.load().storages.RetryHeartbeatStaleTrialCallback
    with _optuna.experimental():
        repeated = callback.retried_trial_number(trial)
        before = study.get_trials(deepcopy=False)[: trial.number if repeated is None else repeated]
        return sum(callback.retried_trial_number(each) is None for each in before)


def suggest(trial, name: str, part: Range | Choices):
    """The value of one knob for a trial."""
    if isinstance(part, Choices):
        return trial.suggest_categorical(name, part.values)
    draw = trial.suggest_int if part.whole else trial.suggest_float
    return part.legible(draw(name, part.low, part.high, log=part.log))
