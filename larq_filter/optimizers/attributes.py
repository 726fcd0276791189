"""What may be read and set on a ``FilterOptimizer``: its rates by name, and nothing by mistake."""

from larq_filter.filters import described
from larq_filter.optimizers.arguments import CLIPPING, refuse_misplaced, validate_clipping

PARTS = ("gradient_filter", "flip_rule", "default_optimizer", "warm_start")
_FIXED = (*PARTS, "skipped_steps", "on_nonfinite", "jit_compile")
_NOT_HERE = ("weight_decay", "use_ema", "ema_momentum", "ema_overwrite_frequency")


class Attributes:
    """Rates as attributes; names and settings that nothing reads are refused."""

    def __repr__(self):
        rest = type(self.default_optimizer).__name__ if self.default_optimizer else "None"
        parts = described(self.gradient_filter), described(self.flip_rule), f"default: {rest}"
        return f"<{type(self).__name__}: {' -> '.join(parts[:2])}; {parts[2]}>"

    def __getattr__(self, name):
        if name in self.__dict__.get("_rates", ()):
            return self._rates.read(name)
        if name in ("learning_rate", "lr", "_learning_rate"):  # the property's own error is lost
            raise AttributeError(f"`{name}` belongs to `default_optimizer`, which is None.")
        raise AttributeError(self._no_such(name))

    def _no_such(self, name: str) -> str:
        text = f"{type(self).__name__} has no attribute {name!r}"
        if name.startswith("_") or "_rates" not in self.__dict__:
            return text
        return f"{text}; the rates of its filter and flip rule are: {self._rates}."

    def __setattr__(self, name, value):
        if name in self.__dict__.get("_rates", ()):
            self._rates.write(name, value)
        elif name in _FIXED and "_rates" in self.__dict__:
            raise AttributeError(
                f"`{name}` can't be replaced: what it needs exists already. Make a new "
                "FilterOptimizer and compile the model again."
            )
        elif self._is_unknown(name):
            raise AttributeError(f"{self._no_such(name)} Setting it would change nothing.")
        else:
            if name in _NOT_HERE and "_layout" in self.__dict__:
                refuse_misplaced({name: value})
            super().__setattr__(name, validate_clipping(name, value) if name in CLIPPING else value)

    def _is_unknown(self, name: str) -> bool:
        """Whether setting ``name`` would make an attribute that nothing reads; a typo, mostly."""
        if not type(self).__module__.startswith("larq_filter.") or "_layout" not in self.__dict__:
            return False  # subclasses, and ``__init__``, may have what they like
        return not (name.startswith("_") or name in self.__dict__ or hasattr(type(self), name))
