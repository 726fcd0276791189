"""Published optimizers for binary weights by name: each one filter and one flip rule.

| preset | filter | flip rule | published in |
|---|---|---|---|
| ``quist2023`` | EMA, EMA | sign | Quist, Li and van Gemert, ICLR 2023, arXiv 2303.02452 |
| ``bop`` | EMA | threshold | Helwegen et al., NeurIPS 2019, arXiv 1906.02107 |
| ``bop_second_order`` | normalised EMA | threshold | Suarez-Ramirez et al., arXiv 2104.05124 |
| ``diode`` | EMA, limiter, EMA | sign | Guo et al., ECCV 2024 |
| ``sgdat`` | sum | growing threshold | Shan et al., SGDAT, 2023 |
| ``boat`` | leaky sum | hysteresis | Shan et al., BOAT, 2025 |
| ``bold`` | sum, 0 after a flip | level reached | Nguyen et al., NeurIPS 2024, arXiv 2405.16339 |
| ``prob_bop`` | EMA | by chance | He et al., Neurocomputing, 2025 |
| ``equal_bits`` | EMA, EMA | half of each filter | Li et al., AAAI 2022, arXiv 2112.03406 |
| ``bayes_binn`` | EMA | sign | Meng, Bachmann and Khan, ICML 2020, arXiv 2002.10778 |
| ``dqt`` | normalised EMA | by chance | for two values derived here from arXiv 2412.04787 |
| ``fgd_ma``, ``fgd_ar``, ``fgd_kalman`` | MA, AR, Kalman; EMA | sign | Yang, 2020, for latents |

Every preset returns a ``FilterOptimizer``. Its own knobs are keyword-only, each a number or a Keras
schedule unless said otherwise, with the published value as default; ``default_optimizer`` and all
further keywords (``clipnorm``, ``warm_start``, ...) are those of ``FilterOptimizer``. A knob called
``binary_learning_rate`` is the publication's learning rate for binary weights; ``learning_rate`` is
that of ``default_optimizer``. The optimizer reads and sets rates by these names too
(``optimizer.beta1``), beside those of filter and flip rule.

Everywhere but in ``equal_bits`` a signal of exactly zero flips nothing. The publications differ
there, some send such a weight to +1; it happens only while all gradients of a weight have been
zero.
"""

from larq_filter import filters, flips
from larq_filter._keras import keras
from larq_filter._validation import one_minus, validate_flag, validate_number, validate_seed
from larq_filter.optimizers import FilterOptimizer, default_alpha

_GAIN = "binary_learning_rate"


def quist2023(*, alpha=None, gamma=0.1, default_optimizer="adam", **kwargs) -> FilterOptimizer:
    """The second-order filter: two moving averages and the sign of the second.

    Published for ImageNet (ReActNet-A, batch 512, 256 epochs): alpha, and the learning rate 1e-3 of
    Adam for the real-valued weights, both linear to 0; gamma constant.

    Args:
        alpha: adaptation rate; None is ``default_alpha()``, this package's own schedule.
        gamma: 1 - momentum; 0.1 is this package's own default.
        default_optimizer: for all other variables.
        **kwargs: of ``FilterOptimizer``.
    """
    alpha = default_alpha() if alpha is None else alpha
    gradient_filter = filters.CascadedEMA(alpha=alpha, gamma=gamma)
    return FilterOptimizer(gradient_filter, flips.Sign(), default_optimizer, **kwargs)


def bop(*, gamma=1e-4, threshold=1e-8, default_optimizer="adam", **kwargs) -> FilterOptimizer:
    """Bop: one moving average and a threshold.

    Published for CIFAR-10 (BinaryNet, batch 50, 500 epochs): gamma 1e-4, times 0.1 every 100
    epochs, threshold 1e-8, Adam at 0.01 for the real-valued weights. Differs from Larq's own
    ``Bop`` only where the signal against a weight equals the threshold exactly: there Larq's sends
    the weight to +1 and this one leaves it.

    Args:
        gamma: adaptation rate, the ``alpha`` of ``filters.EMA``.
        threshold: in units of the gradient.
        default_optimizer: for all other variables.
        **kwargs: of ``FilterOptimizer``.
    """
    filters.validate_rate("gamma", gamma, filters.UP_TO_ONE)
    rule = flips.Threshold(threshold)
    return _named({"gamma": "alpha"}, filters.EMA(gamma), rule, default_optimizer, **kwargs)


def bop_second_order(
    *,
    gamma=1e-6,
    sigma=1e-2,
    threshold=1e-6,
    unbiased: bool = False,
    default_optimizer="adam",
    **kwargs,
) -> FilterOptimizer:
    """Bop2ndOrder: the average in units of the gradient's root mean square, and a threshold.

    Published for CIFAR-10 (BinaryNet, batch 50, 500 epochs), all linear: gamma 1e-2 to 1e-5, sigma
    1e-7 to 1e-2, threshold 1e-5 to 1e-8. The paper's bias correction is that of Adam for constant
    rates; with schedules the reading here is the share of each average that gradients have filled.

    Args:
        gamma: adaptation rate of the first moment.
        sigma: adaptation rate of the second moment.
        threshold: without unit.
        unbiased: with bias correction.
        default_optimizer: for all other variables.
        **kwargs: of ``FilterOptimizer``; no ``warm_start``.
    """
    filters.validate_rate("gamma", gamma, filters.UP_TO_ONE)
    validate_flag("unbiased", unbiased)
    gradient_filter = filters.NormalizedEMA(alpha=gamma, sigma=sigma, bias_correction=unbiased)
    rule = flips.Threshold(threshold)
    return _named({"gamma": "alpha"}, gradient_filter, rule, default_optimizer, **kwargs)


def diode(
    *,
    beta1: float = 0.99,
    beta2: float = 0.9999,
    binary_learning_rate=1e-4,
    seed: int = 0,
    default_optimizer="adam",
    **kwargs,
) -> FilterOptimizer:
    """Diode: the average of the signs of an average.

    The second average starts at ``-w * U(0, 1) * 1e-3``, so initial weights are not forgotten at
    the first step; its inputs are as large as ``binary_learning_rate``, which thereby sets how long
    the start is remembered; a constant has no other effect, a schedule weighs the votes. The
    paper's ``0 -> +1`` and the rule here, a zero flips nothing, agree from this start on.

    Args:
        beta1: of the average of gradients, a number in [0, 1).
        beta2: of the average of signs, a number in [0, 1).
        binary_learning_rate: factor on the signs.
        seed: of the random start, an integer.
        default_optimizer: for all other variables.
        **kwargs: of ``FilterOptimizer``; ``warm_start`` replaces the start above.

    Raises:
        TypeError, ValueError: a beta that is no number in [0, 1).
    """
    filters.validate_rate(_GAIN, binary_learning_rate, filters.POSITIVE)
    first = filters.EMA(_rate_of("beta1", beta1))
    second = filters.EMA(_rate_of("beta2", beta2))
    gradient_filter = filters.Cascade([first, filters.Limiter(binary_learning_rate), second])
    seed = validate_seed("seed", seed)
    kwargs.setdefault("warm_start", keras.initializers.RandomUniform(0.0, 1e-3, seed=seed))
    names = {"beta1": "1 - alpha_0", "binary_learning_rate": "level_1", "beta2": "1 - alpha_2"}
    return _named(names, gradient_filter, flips.Sign(), default_optimizer, **kwargs)


def sgdat(
    *, binary_learning_rate=1e-4, threshold=1e-7, default_optimizer="adam", **kwargs
) -> FilterOptimizer:
    """SGDAT: the sum of all gradients, and a threshold that each flip of a weight raises.

    Published for CIFAR-10 (BinaryNet, batch 256, 200 epochs): 1e-4 and 1e-7. Reading: a weight's
    count of flips starts at 0 and the threshold is ``threshold * count``, as in the released code,
    so the first flip is free. The optional momentum of that code is not part of this preset.

    Args:
        binary_learning_rate: factor on the gradients in the sum.
        threshold: growth per flip; only its ratio to ``binary_learning_rate`` matters.
        default_optimizer: for all other variables.
        **kwargs: of ``FilterOptimizer``.
    """
    filters.validate_rate(_GAIN, binary_learning_rate, filters.POSITIVE)
    gradient_filter = filters.LeakyIntegrator(gain=binary_learning_rate, leak=0.0)
    rule = flips.GrowingThreshold(threshold)
    return _named({_GAIN: "gain"}, gradient_filter, rule, default_optimizer, **kwargs)


def boat(*, leak=1e-3, eta=0.1, default_optimizer="adam", **kwargs) -> FilterOptimizer:
    """BOAT: a leaky sum against a band that grows with the energy of the gradients.

    Published for CIFAR-10 (BinaryNet, batch 256, 200 epochs): 1e-3 and 0.1. Reading: sum and band
    both contain the gradient of this step before they are compared, as in the released code.

    Args:
        leak: share of the sum forgotten per step, the paper's weight decay lambda.
        eta: growth of the band.
        default_optimizer: for all other variables.
        **kwargs: of ``FilterOptimizer``.
    """
    gradient_filter = filters.LeakyIntegrator(gain=1.0, leak=leak)
    return FilterOptimizer(gradient_filter, flips.Hysteresis(eta), default_optimizer, **kwargs)


def bold(*, binary_learning_rate=150.0, default_optimizer="adam", **kwargs) -> FilterOptimizer:
    """BOLD: weights integrate what speaks against them and fire; the memory lengthens itself.

    Published for VGG-Small on CIFAR-10: 150 with batch normalisation, 12 without. Reading: the
    paper's Boolean variation q is the gradient as Keras hands it over (mean over the batch if the
    loss is a mean), so the right number depends on the loss and the batch size: a flip ratio of 0
    or near 1 in ``FlipMonitor`` says that it is wrong.

    Args:
        binary_learning_rate: factor on the gradients; weights fire at 1.
        default_optimizer: for all other variables.
        **kwargs: of ``FilterOptimizer``.
    """
    filters.validate_rate(_GAIN, binary_learning_rate, filters.POSITIVE)
    gradient_filter = filters.ResettingIntegrator(gain=binary_learning_rate)
    return _named({_GAIN: "gain"}, gradient_filter, flips.Fire(), default_optimizer, **kwargs)


def prob_bop(
    *,
    steps_per_epoch: int,
    gamma=1e-4,
    threshold=1e-8,
    a: float = 0.5,
    sigma=None,
    count_flips: bool = False,
    seed: int = 0,
    default_optimizer="adam",
    **kwargs,
) -> FilterOptimizer:
    """ProbBop: Bop whose threshold is blurred by chance, less and less.

    The blur is ``randomness = a^floor(epoch / 10) / 2``, epochs counted from 0. Readings: the edges
    of the blur themselves count as inside above and as outside below (see ``flips.Probabilistic``);
    flips of a weight are counted from 0 and divide its strength everywhere, in the probability and
    at both edges. The released code counts epochs from 1 and narrows the blur every epoch.

    Args:
        steps_per_epoch: steps in one epoch, a number > 0.
        gamma: adaptation rate.
        threshold: in units of the gradient; without unit if sigma is given.
        a: the blur shrinks by this factor every 10 epochs, a number in (0, 1].
        sigma: None, or the rate of the second moment that normalises the average.
        count_flips: harder to flip with each flip.
        seed: of the random numbers, an integer.
        default_optimizer: for all other variables.
        **kwargs: of ``FilterOptimizer``.

    Raises:
        TypeError, ValueError: ``steps_per_epoch`` or ``a`` is no number in its interval.
    """
    filters.validate_rate("gamma", gamma, filters.UP_TO_ONE)
    validate_number("steps_per_epoch", steps_per_epoch, filters.POSITIVE)
    validate_number("a", a, filters.UP_TO_ONE)
    if sigma is None:
        gradient_filter = filters.EMA(gamma)
    else:
        gradient_filter = filters.NormalizedEMA(alpha=gamma, sigma=sigma)
    randomness = keras.optimizers.schedules.ExponentialDecay(
        0.5, 10 * steps_per_epoch, a, staircase=True
    )
    rule = flips.Probabilistic(threshold, randomness, count_flips, seed)
    return _named({"gamma": "alpha"}, gradient_filter, rule, default_optimizer, **kwargs)


def equal_bits(*, alpha=5e-4, gamma=0.1, default_optimizer="adam", **kwargs) -> FilterOptimizer:
    """Equal-Bits without latent weights: half of each filter is +1, by rank of the signal.

    Published with latent weights; its recipe for them (learning rate 0.1, L2 5e-4, momentum 0.9) is
    the default in the language of filters, ``hyperparameters.filter_from_sgd``. Published with a
    learning rate decay; here that is a schedule for alpha.

    Args:
        alpha: adaptation rate.
        gamma: 1 - momentum.
        default_optimizer: for all other variables.
        **kwargs: of ``FilterOptimizer``.
    """
    gradient_filter = filters.CascadedEMA(alpha=alpha, gamma=gamma)
    return FilterOptimizer(gradient_filter, flips.Balanced(), default_optimizer, **kwargs)


def bayes_binn(*, binary_learning_rate=3e-4, default_optimizer="adam", **kwargs) -> FilterOptimizer:
    """BayesBiNN at its published temperature: one moving average and its sign.

    The publication learns lambda, half of the log-odds of each weight, from gradients g at weights
    that are drawn at random, for N images with learning rate eps:

        q = tanh((lambda + noise) / T),  noise = log(u / (1 - u)) / 2
        s = (1 - q^2 + 1e-10) / T / (1 - tanh(lambda)^2 + 1e-10)
        lambda = (1 - eps) lambda - eps N s g

    With its T of 1e-10 q is -1 or +1, and s is 1e10 from the first step on in float32, in which it
    was published: tanh(10) is 1 there. One step takes lambda to 1e7 and more, where the noise, a
    few units, turns no sign. A constant gain matters to no sign either: what is left is
    ``EMA(alpha=eps)`` and ``Sign``. tests/test_presets.py steps both for 20,000 steps, and not one
    sign differs. In float64 the first gradient alone counts 1/83 of any other, which the average
    remembers for 1/eps steps. (The released code takes the lambda in s one step late, which changes
    nothing of this.) A temperature near 1, which leaves weights undecided, is another
    method and not this one.

    Its start, lambda = +-10 at random, is ``10 / (1e10 N)`` in units of the gradient: it outlasts
    no gradient but zero, as a start of this filter from zero. So ``warm_start`` is None.

    Published for CIFAR-10 (BinaryNet, batch 50, 500 epochs): 3e-4, cosine to 1e-16; the batch
    normalisations there have neither gamma nor beta.

    Args:
        binary_learning_rate: adaptation rate, the ``alpha`` of ``filters.EMA``.
        default_optimizer: for all other variables.
        **kwargs: of ``FilterOptimizer``.
    """
    filters.validate_rate(_GAIN, binary_learning_rate, filters.UP_TO_ONE)
    gradient_filter = filters.EMA(binary_learning_rate)
    return _named({_GAIN: "alpha"}, gradient_filter, flips.Sign(), default_optimizer, **kwargs)


def dqt(
    *,
    rate=5e-4,
    beta1: float = 0.9,
    beta2: float = 0.999,
    seed: int = 0,
    default_optimizer="adam",
    **kwargs,
) -> FilterOptimizer:
    """DQT for two values: Adam's step, rounded to -1 or +1 at random.

    Published for language models with weights of three values and more ("Direct Quantized Training
    of Language Models with Stochastic Rounding"); the case of two values is derived here, see
    ``flips.Stochastic``. The betas are the released code's, which has no weight decay by default;
    ``rate`` is half of its default learning rate, 1e-3. The learning rate of the published runs is
    not verified. Reading: its epsilon of 1e-6 is added to ``sqrt(v)`` before the bias correction,
    here after it.

    Args:
        rate: flips per step and unit of Adam's step.
        beta1: of the average of gradients, a number in [0, 1).
        beta2: of the average of squared gradients, a number in [0, 1).
        seed: of the random numbers, an integer.
        default_optimizer: for all other variables.
        **kwargs: of ``FilterOptimizer``; no ``warm_start``.

    Raises:
        TypeError, ValueError: a beta that is no number in [0, 1).
    """
    gradient_filter = filters.NormalizedEMA(
        alpha=_rate_of("beta1", beta1),
        sigma=_rate_of("beta2", beta2),
        epsilon=1e-6,
        bias_correction=True,
    )
    names = {"beta1": "1 - alpha", "beta2": "1 - sigma"}
    rule = flips.Stochastic(rate, seed)
    return _named(names, gradient_filter, rule, default_optimizer, **kwargs)


def fgd_ma(
    *, alpha=None, coefficients=(0.8, 0.1), default_optimizer="adam", **kwargs
) -> FilterOptimizer:
    """Filter Gradient Descent with a moving sum, ``filters.MA``.

    Published for latent weights, which SGD moves by filtered gradients. The filters are short: of a
    gradient less than 1 % is left after 3 steps (``fgd_ma``), 48 (``fgd_ar``) and 5
    (``fgd_kalman``). They can be, since the latent weights behind them remember. With decoupled
    weight decay, learning rate eps and decay lambda,

        w = (1 - eps lambda) w - eps ghat,

    ``-lambda w`` is ``EMA(alpha = eps lambda)`` of the filtered gradient ghat, for schedules of eps
    too: so an average comes after the filter here. Without it a weight would follow the noise of
    its last few gradients.

    Args:
        alpha: adaptation rate of the average; None is ``default_alpha()``, this package's own.
        coefficients: of the gradients before this one, published [0.8, 0.1] and [0.9].
        default_optimizer: for all other variables.
        **kwargs: of ``FilterOptimizer``.
    """
    return _fgd(filters.MA(coefficients), alpha, default_optimizer, kwargs)


def fgd_ar(
    *, alpha=None, coefficients=(0.8, 0.1), default_optimizer="adam", **kwargs
) -> FilterOptimizer:
    """Filter Gradient Descent with feedback, ``filters.AR``. ``fgd_ma`` says more.

    Args:
        alpha: adaptation rate of the average; None is ``default_alpha()``, this package's own.
        coefficients: of the signals before this one, published [0.8, 0.1] and [0.9].
        default_optimizer: for all other variables.
        **kwargs: of ``FilterOptimizer``.
    """
    return _fgd(filters.AR(coefficients), alpha, default_optimizer, kwargs)


def fgd_kalman(
    *,
    alpha=None,
    process_variance=0.01,
    measurement_variance=2.0,
    transition=5.0,
    initial_variance=0.01,
    default_optimizer="adam",
    **kwargs,
) -> FilterOptimizer:
    """Filter Gradient Descent with a Kalman filter, ``filters.Kalman``. ``fgd_ma`` says more.

    Args:
        alpha: adaptation rate of the average; None is ``default_alpha()``, this package's own.
        process_variance: as in ``filters.Kalman``, like the next three; all a number.
        measurement_variance: only the ratios of the three variances matter.
        transition: factor on the true gradient per step.
        initial_variance: of the error at the start.
        default_optimizer: for all other variables.
        **kwargs: of ``FilterOptimizer``.
    """
    gradient_filter = filters.Kalman(
        process_variance, measurement_variance, transition, initial_variance
    )
    return _fgd(gradient_filter, alpha, default_optimizer, kwargs)


def _fgd(gradient_filter, alpha, default_optimizer, kwargs) -> FilterOptimizer:
    """A filter of Filter Gradient Descent, and the average in place of its latent weights."""
    alpha = default_alpha() if alpha is None else alpha
    cascade = filters.Cascade([gradient_filter, filters.EMA(alpha)])
    return _named({"alpha": "alpha_1"}, cascade, flips.Sign(), default_optimizer, **kwargs)


def _named(names: dict[str, str], *args, **kwargs) -> FilterOptimizer:
    """A ``FilterOptimizer`` whose rates have the publication's names too."""
    return FilterOptimizer(*args, **{"rate_aliases": names, **kwargs})


def _rate_of(name: str, beta) -> float:
    """The adaptation rate ``1 - beta`` of an average, for a number in [0, 1)."""
    if not filters.is_number(beta):
        raise TypeError(
            f"`{name}` must be a number in [0, 1), not {filters.shown(beta)}. For a schedule build "
            "the filter from larq_filter.filters, whose rates are 1 - beta."
        )
    if not 0 <= beta < 1:
        raise ValueError(f"`{name}` is {filters.shown(beta)}; it must lie in [0, 1).")
    return one_minus(float(beta))


PRESETS = {
    preset.__name__: preset
    for preset in (
        quist2023,
        bop,
        bop_second_order,
        diode,
        sgdat,
        boat,
        bold,
        prob_bop,
        equal_bits,
        bayes_binn,
        dqt,
        fgd_ma,
        fgd_ar,
        fgd_kalman,
    )
}
"""The presets by name."""
