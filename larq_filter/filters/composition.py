"""Filters made of filters."""

import dataclasses

import numpy as np

from larq_filter.filters._base import Filter, Rate


@dataclasses.dataclass(frozen=True, eq=False)
class Cascade(Filter):
    """Filters in series: the gradient meets the first one first.

        y = stages[-1](... stages[1](stages[0](x)))

    The rates of stage i are named with its position: ``alpha_0``, ``alpha_1``, ...
    ``Cascade([EMA(gamma), EMA(alpha)])`` is ``CascadedEMA(alpha=alpha, gamma=gamma)``.

    Args:
        stages: one or more filters.

    Raises:
        TypeError: something in ``stages`` is not a filter.
        ValueError: no stage.
    """

    stages: tuple[Filter, ...]

    def __post_init__(self):
        if isinstance(self.stages, Filter) or not hasattr(self.stages, "__iter__"):
            raise TypeError(f"`stages` must be a list of filters, not {self.stages!r}.")
        stages = tuple(self.stages)
        for stage in stages:
            if not isinstance(stage, Filter):
                raise TypeError(
                    f"Every stage must be a filter from larq_filter.filters, not {stage!r}."
                )
        if not stages:
            raise ValueError("A Cascade needs at least one stage; received none.")
        object.__setattr__(self, "stages", stages)

    def get_config(self) -> dict:
        return {"stages": list(self.stages)}

    def rates(self) -> dict[str, Rate]:
        return {
            f"{name}_{index}": rate
            for index, stage in enumerate(self.stages)
            for name, rate in stage.rates().items()
        }

    def with_rate(self, name: str, rate: Rate) -> "Cascade":
        own, _, index = name.rpartition("_")
        stages = list(self.stages)
        stages[int(index)] = stages[int(index)].with_rate(own, rate)
        return Cascade(stages)

    @property
    def order(self) -> int:
        return sum(stage.order for stage in self.stages)

    @property
    def state_size(self) -> int:
        return sum(stage.state_size for stage in self.stages)

    @property
    def is_linear(self) -> bool:
        return all(stage.is_linear for stage in self.stages)

    def _split(self, state: tuple) -> list[tuple]:
        """The flat state, cut into the part of each stage."""
        ends = np.cumsum([stage.state_size for stage in self.stages])
        return [
            state[end - stage.state_size : end]
            for stage, end in zip(self.stages, ends, strict=True)
        ]

    def step(self, x, state, rates, xp):
        new_state = ()
        for index, (stage, part) in enumerate(zip(self.stages, self._split(state), strict=True)):
            own = {name: rates[f"{name}_{index}"] for name in stage.rates()}
            x, part = stage.step(x, part, own, xp)
            new_state += part
        return x, new_state

    def state_from_output(self, output, xp):
        *inner, last = self.stages
        state = sum((stage.zero_state(output, xp) for stage in inner), ())
        return state + last.state_from_output(output, xp)

    def feedback(self, state, flipped, xp):
        parts = zip(self.stages, self._split(state), strict=True)
        return sum((stage.feedback(part, flipped, xp) for stage, part in parts), ())

    def sos(self, step: int = 0) -> np.ndarray:
        return np.concatenate([stage.sos(step) for stage in self.stages])
