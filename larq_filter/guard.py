"""Takes a step only if every gradient is finite.

An average that remembers 10,000 steps keeps a NaN for good: its weight would never flip again. So
the gradients are looked at before anything reads them, and all of them at once: skipping one
variable and stepping the others would leave a model that no gradient asked for.

Rejected: replacing NaN by zero (a made-up gradient), and looking at the new states instead of the
gradients (the old states would have to be kept to go back to).
"""

import warnings

from larq_filter._keras import tf

CHOICES = ("skip", "raise")


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


def step_if_finite(gradients, step, otherwise) -> None:
    """Calls ``step(gradients)`` on each replica if all gradients are finite, else ``otherwise``.

    Args:
        gradients: already summed over replicas; of one replica, as this function is called in it.
        step: a function of such a list.
        otherwise: ``otherwise(gradients)``, called once for all replicas, with those of the first.
    """
    if tf.__internal__.distribute.strategy_supports_no_merge_call():
        tf.cond(all_finite(gradients), lambda: step(gradients), lambda: otherwise(gradients))
        return

    # Updates of mirrored variables meet across replicas, which TensorFlow does not let them do in
    # a conditional of one replica. As in Keras' loss scaling, the conditional itself is put across.
    def choose(strategy, gradients):
        copies = [strategy.experimental_local_results(gradient) for gradient in gradients]
        tf.cond(
            all_finite([copy for each in copies for copy in each]),
            lambda: strategy.extended.call_for_each_replica(step, args=(gradients,)),
            lambda: otherwise([each[0] for each in copies]),
        )

    tf.distribute.get_replica_context().merge_call(choose, args=(gradients,))


def refuse(gradients, names) -> list:
    """Operations that raise ``tf.errors.InvalidArgumentError`` and name what is not finite.

    XLA drops assertions: inside of a training step that is compiled as a whole they do nothing.

    Args:
        gradients: for which ``all_finite`` does not hold.
        names: of their variables.
    """
    named = [
        tf.debugging.Assert(
            all_finite([gradient]),
            [f"The gradient of {name} holds NaN, Inf or numbers above 1e19. Nothing was changed."],
        )
        for gradient, name in zip(gradients, names, strict=True)
    ]
    with tf.control_dependencies([each for each in named if each is not None]):
        together = tf.debugging.Assert(
            False, ["The norm of all gradients together is above 1.8e19. Nothing was changed."]
        )
    return [] if together is None else [together]


def report(skipped: int, total: int, choice: str) -> None:
    """Says at the end of a training that steps were skipped.

    Args:
        skipped: how many in this training, at least 1.
        total: how many so far, which makes a text of its own: Python shows no warning twice.
        choice: one of ``CHOICES``.

    Warns:
        RuntimeWarning: with ``"skip"``.

    Raises:
        RuntimeError: with ``"raise"``, where no assertion did it at the step itself.
    """
    taken = f"{skipped} steps were skipped" if skipped > 1 else "1 step was skipped"
    raising = choice == "raise"
    cure = "compile(jit_compile=False)" if raising else 'FilterOptimizer(on_nonfinite="raise")'
    message = (
        f"{taken} because a gradient held NaN, Inf or numbers beyond a norm of 1.8e19. Check "
        "images and labels, and the learning rate of the real-valued variables. Kernels and "
        "optimizer are as if those steps had not been; a batch normalisation that saw NaN in "
        "the forward pass keeps it, and then only an earlier checkpoint helps. With "
        f"{cure} the first such step stops training and names the variable. Skipped steps of all "
        f"trainings so far: {total}."
    )
    if raising:
        raise RuntimeError(message)
    warnings.warn(message, RuntimeWarning, stacklevel=3)


def _at_least_float32(gradient):
    values = gradient.values if isinstance(gradient, tf.IndexedSlices) else gradient
    return values if values.dtype.size >= 4 else tf.cast(values, tf.float32)
