"""Three findings about latent methods, in float64 and without training a network.

scales     before a batch normalisation a scale of the kernel is a gain of its gradient, or nothing
gates      ReCU's clamp changes no sign; it keeps the largest weights from learning
averages   BayesBiNN at its published temperature is an average of the gradients and its sign
"""

import numpy as np

from larq_filter import filters, quantizers
from larq_filter._keras import tf

CASES = {
    "gradient scaled": {"gradient": "scaled"},
    "straight": {"gradient": "straight"},
    "exact": {"gradient": "exact"},
}


def scales(filters_of: int = 24) -> dict:
    """What scaling by the mean magnitude does to the gradient of a kernel before normalisation.

    Returns:
        ``mean_abs``: of each filter; and for each case the size of the gradient against that
        without a scale, and the largest angle to it in degrees.
    """
    random = np.random.default_rng(0)
    sizes = np.geomspace(0.02, 2.0, filters_of)
    kernel = sizes * random.normal(size=(50, filters_of))
    x, target = random.normal(size=(256, 50)), random.normal(size=(256, filters_of))
    plain = _gradient(kernel, x, target, {})
    found = {"mean_abs": np.abs(kernel).mean(axis=0).tolist()}
    for name, options in CASES.items():
        gradient = _gradient(kernel, x, target, {"scale": quantizers.MeanAbs(), **options})
        norms = np.linalg.norm(gradient, axis=0), np.linalg.norm(plain, axis=0)
        cosine = np.sum(gradient * plain, axis=0) / norms[0] / norms[1]
        angle = np.degrees(np.arccos(np.clip(cosine, -1, 1))).max()
        found[name] = {"gain": (norms[0] / norms[1]).tolist(), "angle": float(angle)}
    return found


def _gradient(kernel, x, target, options: dict) -> np.ndarray:
    """Of a squared error after a batch normalisation without epsilon."""
    quantizer = quantizers.Sign(surrogate=quantizers.Straight(None), dtype="float64", **options)
    kernel = tf.constant(kernel)
    with tf.GradientTape() as tape:
        tape.watch(kernel)
        y = tf.matmul(x, quantizer(kernel))
        y = (y - tf.reduce_mean(y, 0)) / tf.math.reduce_std(y, 0)
        loss = tf.reduce_sum((y - target) ** 2)
    return tape.gradient(loss, kernel).numpy()


def gates(points: int = 51) -> dict:
    """Share of the weights that ReCU gives no gradient, over its training."""
    random, progress = np.random.default_rng(0), np.linspace(0, 1, points)
    weights = {"normal": random.normal(size=200_000), "Laplace": random.laplace(size=200_000)}
    gate = quantizers.Quantile()
    return {
        "progress": progress.tolist(),
        **{
            name: [float(1 - gate.slope(z, {"progress": p}, np).mean()) for p in progress]
            for name, z in weights.items()
        },
    }


def averages(steps: int = 20_000, rate: float = 3e-4) -> dict:
    """Share of the signs in which BayesBiNN and an average differ, mean over all steps so far.

    A linear network of 40 weights learns those of another one, in batches of 8. Both see the
    gradients at the weights that BayesBiNN draws. In float32, as published, tanh(10) is 1.
    """
    found = {}
    for name, single in (("tanh in float32", True), ("in float64", False)):
        random = np.random.default_rng(0)
        x, target = random.normal(size=(512, 40)), random.choice([-1.0, 1.0], 40)
        y = x @ target + 3 * random.normal(size=512)
        log_odds = 10 * random.choice([-1.0, 1.0], 40)
        average, state = filters.EMA(rate), (np.zeros(40),)
        differ = np.empty(steps)
        for step in range(steps):
            batch, u = random.integers(0, 512, 8), random.uniform(size=40)
            draw = np.tanh((log_odds + np.log(u / (1 - u)) / 2) / 1e-10)
            gradient = x[batch].T @ (x[batch] @ draw - y[batch]) / 320
            slope = (
                np.tanh(log_odds.astype(np.float32)).astype(float) if single else np.tanh(log_odds)
            )
            size = (1 - draw**2 + 1e-10) / 1e-10 / (1 - slope**2 + 1e-10)
            log_odds = (1 - rate) * log_odds - rate * 50_000 * size * gradient
            signal, state = average.step(gradient, state, {"alpha": rate}, np)
            differ[step] = np.mean(np.sign(log_odds) != -np.sign(signal))
        found[name] = (np.cumsum(differ) / np.arange(1, steps + 1))[99::100].tolist()
    return {"steps": list(range(100, steps + 1, 100)), **found}
