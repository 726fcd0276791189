"""Takes a step only if every gradient is finite and every rate in its interval.

An average that remembers 10,000 steps keeps a NaN for good: its weight would never flip again. So
the gradients are looked at before anything reads them, and all of them at once: skipping one
variable and stepping the others would leave a model that no gradient asked for.

From finite gradients and such rates a filter makes finite states. Where it may not, as running it
tells when the optimizer is built (``filters.stays_finite``), a weight whose signal or state would
not be finite keeps what it has. Rejected: that for every filter (the step of two averages takes 1.5
times as long), and looking at all new states before any is written (they would be kept twice).

Rejected too: replacing NaN by zero, which is a made-up gradient.
"""

import warnings

from larq_filter._keras import tf

CHOICES = ("skip", "raise")
_NOTHING = "Nothing was changed."


def all_finite(gradients):
    """Whether ``gradients`` have a finite sum of squares.

    They have not if there is NaN or Inf among them, or if their norm is beyond what float32 can
    square (1.8e19): filters take differences and squares, which would overflow in the state.
    One pass at the speed of memory, without a copy.

    Args:
        gradients: tensors or ``tf.IndexedSlices`` of floating point numbers, of any shape.

    Returns:
        A tensor of bool, shape ().
    """
    halves = {}
    for gradient in gradients:
        half = tf.nn.l2_loss(_at_least_float32(gradient))
        halves.setdefault(half.dtype, []).append(half)
    return tf.reduce_all([tf.math.is_finite(tf.add_n(each)) for each in halves.values()])


def keep_finite(new, old, bad):
    """``new``; ``old`` where ``bad``, of the kernel's shape; a scalar is that of all weights."""
    return tf.where(bad if new.shape == bad.shape else tf.reduce_any(bad), old, new)


def step_if_finite(gradients, allowed, step, otherwise) -> None:
    """Calls ``step(gradients)`` on each replica if it may be taken, else ``otherwise``.

    It may if all gradients are finite and ``allowed()`` is true everywhere.

    Args:
        gradients: already summed over replicas; of one replica, as this function is called in it.
        allowed: a function without arguments that gives a tensor of bool, the same on each replica.
        step: a function of such a list.
        otherwise: ``otherwise(gradients)``, called once for all replicas, with those of the first.
    """
    if tf.__internal__.distribute.strategy_supports_no_merge_call():
        may = all_finite(gradients) & tf.reduce_all(allowed())
        tf.cond(may, lambda: step(gradients), lambda: otherwise(gradients))
        return

    # Updates of mirrored variables meet across replicas, which TensorFlow does not let them do in
    # a conditional of one replica. As in Keras' loss scaling, the conditional itself is put across.
    def choose(strategy, gradients):
        copies = [strategy.experimental_local_results(gradient) for gradient in gradients]
        finite = all_finite([copy for each in copies for copy in each])
        tf.cond(
            finite & tf.reduce_all(allowed()),
            lambda: strategy.extended.call_for_each_replica(step, args=(gradients,)),
            lambda: otherwise([each[0] for each in copies]),
        )

    tf.distribute.get_replica_context().merge_call(choose, args=(gradients,))


def refuse(gradients, names, allowed, rates) -> list:
    """Operations that raise ``tf.errors.InvalidArgumentError`` and name what is not as it must be.

    XLA drops assertions: inside of a training step that is compiled as a whole they do nothing.

    Args:
        gradients: of the step that was not taken.
        names: of their variables.
        allowed: a tensor of bool, for each rate whether it is in its interval.
        rates: for each rate its name and value, as text and a tensor.
    """
    named = [
        tf.debugging.Assert(allowed[index], [f"{name} is outside its interval:", value, _NOTHING])
        for index, (name, value) in enumerate(rates)
    ]
    named += [
        tf.debugging.Assert(
            all_finite([gradient]),
            [f"The gradient of {name} holds NaN, Inf or numbers above 1e19. {_NOTHING}"],
        )
        for gradient, name in zip(gradients, names, strict=True)
    ]
    with tf.control_dependencies([each for each in named if each is not None]):
        together = tf.debugging.Assert(
            False, [f"The norm of all gradients together is above 1.8e19. {_NOTHING}"]
        )
    return [] if together is None else [together]


class Tally:
    """What this process has yet to report at the end of a training; neither saved nor restored.

    Attributes:
        skips: steps that were skipped.
        bad_rates: whether a rate was the reason of one of them.
        kept: how often a weight kept its state, as the filter made NaN of finite gradients.
    """

    def __init__(self):
        with tf.init_scope():
            self.skips = tf.Variable(0, trainable=False)
            self.bad_rates = tf.Variable(False, trainable=False)
            self.kept = tf.Variable(0, dtype=tf.int64, trainable=False)

    def note_skip(self, allowed) -> None:
        """Counts a step; ``allowed`` says of each rate whether it was in its interval."""
        self.skips.assign_add(1)
        self.bad_rates.assign(self.bad_rates | ~tf.reduce_all(allowed))

    def report(self, choice: str, total: int, complaints) -> None:
        """Says what has happened, and begins to count anew.

        Args:
            choice: one of ``CHOICES``.
            total: steps skipped so far, which makes a text of its own: Python shows no warning
                twice.
            complaints: a function that says what is wrong with the rates, as a list of texts.

        Warns:
            RuntimeWarning: with ``"skip"``.

        Raises:
            RuntimeError: with ``"raise"``, where no assertion did it at the step itself.
        """
        if skipped := int(self.skips.numpy()):
            self.skips.assign(0)
            rates = complaints() if self.bad_rates.numpy() else []
            self.bad_rates.assign(False)
            _say(_why_skipped(skipped, total, choice, rates), choice)
        if count := int(self.kept.numpy()):
            self.kept.assign(0)
            _say(
                f"The filter gave NaN or Inf from finite gradients, {count:,} times for a weight; "
                "those weights kept state and side. Scale its numbers down, or look for a division "
                "or a root in it that has no value everywhere.",
                choice,
            )


def _why_skipped(skipped: int, total: int, choice: str, rates: list[str]) -> str:
    taken = f"{skipped} steps were skipped" if skipped > 1 else "1 step was skipped"
    stop = (
        "compile(jit_compile=False)"
        if choice == "raise"
        else 'FilterOptimizer(on_nonfinite="raise")'
    )
    message = (
        f"{taken} because a gradient held NaN, Inf or numbers beyond a norm of 1.8e19. Check "
        "images and labels, and the learning rate of the real-valued variables. Kernels and "
        "optimizer are as if those steps had not been; a batch normalisation that saw NaN in "
        "the forward pass keeps it, and then only an earlier checkpoint helps. With "
        f"{stop} the first such step stops training and names the variable. "
    )
    if rates:
        message = (
            f"{taken} because a rate was outside its interval: {'; '.join(rates)}. Kernels and "
            "optimizer are as if those steps had not been, and steps are not counted meanwhile, so "
            "a schedule stays where it is: mend it and compile the model again, or set the rate. "
        )
    return f"{message}Skipped steps of all trainings so far: {total}."


def _say(message: str, choice: str) -> None:
    if choice == "raise":
        raise RuntimeError(message)
    warnings.warn(message, RuntimeWarning, stacklevel=4)


def _at_least_float32(gradient):
    values = gradient.values if isinstance(gradient, tf.IndexedSlices) else gradient
    return values if values.dtype.size >= 4 else tf.cast(values, tf.float32)
