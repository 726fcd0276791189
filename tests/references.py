"""Independent twins of what larq_filter computes: plain NumPy, written from the papers.

Nothing here imports larq_filter. A twin is a class with ``step(gradient) -> weight`` that holds its
own arrays, so that it shares neither the interface nor a line with the code under test.
"""

import numpy as np


class QuistReference:
    """Two averages and the sign of the second (arXiv 2303.02452), float64.

    ``alphas`` is a function of the step, so schedules need no Keras.
    """

    def __init__(self, weights, alphas, gamma):
        self.w = np.where(np.asarray(weights, np.float64) < 0, -1.0, 1.0)
        self.m = np.zeros_like(self.w)
        self.h = np.zeros_like(self.w)
        self.alphas, self.gamma, self.t = alphas, gamma, 0

    def step(self, g):
        a = self.alphas(self.t)
        self.m = (1 - self.gamma) * self.m + self.gamma * g
        self.h = (1 - a) * self.h + a * self.m
        disagree = np.sign(self.h) == np.sign(self.w)
        self.w[disagree & (self.h != 0)] *= -1
        self.t += 1
        return self.w


class BopReference:
    """One average and a threshold (arXiv 1906.02107, algorithm 1), float64."""

    def __init__(self, weights, gamma, threshold):
        self.w = np.where(np.asarray(weights, np.float64) < 0, -1.0, 1.0)
        self.m = np.zeros_like(self.w)
        self.gamma, self.threshold = gamma, threshold

    def step(self, g):
        self.m = (1 - self.gamma) * self.m + self.gamma * g
        for index in np.ndindex(*self.w.shape):
            if abs(self.m[index]) > self.threshold and np.sign(self.m[index]) == self.w[index]:
                self.w[index] = -self.w[index]
        return self.w


class VelocityReference:
    """Keras' SGD with momentum and decoupled weight decay on a real-valued weight, float64.

    u = mu u + eps_t g;  w = (1 - eps_t lambda) w - u;  the binary weight is the sign of w.
    """

    def __init__(self, weights, learning_rates, weight_decay, momentum):
        self.w = np.array(weights, np.float64)
        self.u = np.zeros_like(self.w)
        self.eps, self.decay, self.mu, self.t = learning_rates, weight_decay, momentum, 0

    def step(self, g):
        eps = self.eps(self.t)
        self.u = self.mu * self.u + eps * g
        self.w = (1 - eps * self.decay) * self.w - self.u
        self.t += 1
        return np.where(self.w < 0, -1.0, 1.0)


def linear(start, steps):
    """Linear decay from ``start`` to 0 over ``steps``, as a function of the step."""
    return lambda t: start * max(0.0, 1 - t / steps)


def inverse_time(start, steps):
    """``start / (1 + t/steps)`` as a function of the step."""
    return lambda t: start / (1 + t / steps)


def crop_and_flip(image, pad, top, left, mirror):
    """One CIFAR augmentation of an ``(h, w, c)`` image: zero-pad, cut out, mirror."""
    height, width, _ = image.shape
    padded = np.pad(image, ((pad, pad), (pad, pad), (0, 0)))
    cut = padded[top : top + height, left : left + width]
    return cut[:, ::-1] if mirror else cut


class LatentReference:
    """SGD on latent weights in all its conventions, float64; ``step(gradient) -> sign``.

    Written from the update rules of Keras (learning rate inside the velocity), PyTorch (outside)
    and normalised momentum, each with weight decay inside the gradient or decoupled before the
    step, and Nesterov's look ahead as the two libraries write it.

    Args:
        weights: latent weights at the start.
        eps: learning rate, as a function of the step.
        decay, mu: weight decay and momentum.
        decoupled, velocity, nesterov: as in ``larq_filter.hyperparameters``.
    """

    def __init__(self, weights, eps, decay, mu, decoupled, velocity, nesterov=False):
        self.w = np.array(weights, np.float64)
        self.u = np.zeros_like(self.w)
        self.eps, self.decay, self.mu, self.t = eps, decay, mu, 0
        self.decoupled, self.velocity, self.nesterov = decoupled, velocity, nesterov

    def step(self, g):
        eps, mu = self.eps(self.t), self.mu
        if not self.decoupled:
            g = g + self.decay * self.w
        inside = eps if self.velocity == "keras" else 1.0
        inside *= (1 - mu) if self.velocity == "normalised" else 1.0
        outside = 1.0 if self.velocity == "keras" else eps
        self.u = mu * self.u + inside * g
        move = inside * g + mu * self.u if self.nesterov else self.u
        shrink = eps * self.decay if self.decoupled else 0.0
        self.w = (1 - shrink) * self.w - outside * move
        self.t += 1
        return np.where(self.w < 0, -1.0, 1.0)


class WeightedMeanReference:
    """The running mean of all gradients, weighted with the learning rate; float64."""

    def __init__(self, shape, eps):
        self.y, self.eps, self.total, self.t = np.zeros(shape), eps, 0.0, 0

    def step(self, g):
        eps = self.eps(self.t)
        self.total += eps
        self.y = self.y + eps / self.total * (g - self.y)
        self.t += 1
        return np.where(self.y > 0, -1.0, 1.0)
