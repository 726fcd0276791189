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


def linear(start, steps):
    """Linear decay from ``start`` to 0 over ``steps``, as a function of the step."""
    return lambda t: start * max(0.0, 1 - t / steps)


def inverse_time(start, steps):
    """``start / (1 + t/steps)`` as a function of the step."""
    return lambda t: start / (1 + t / steps)


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


def signs(weights):
    """Binary weights as the optimizer starts with them: the sign, +1 at zero; float64."""
    return np.where(np.asarray(weights, np.float64) < 0, -1.0, 1.0)


class Bop2ndOrderReference:
    """Bop in units of the second moment (arXiv 2104.05124), one weight at a time, float64.

    ``gammas`` and ``sigmas`` are functions of the step. The correction divides each moment by one
    minus the product of all (1 - rate) so far.
    """

    def __init__(self, weights, gammas, sigmas, threshold, unbiased):
        self.w = signs(weights)
        self.m, self.v = {}, {}
        self.left_m = self.left_v = 1.0
        self.gammas, self.sigmas = gammas, sigmas
        self.threshold, self.unbiased, self.t = threshold, unbiased, 0

    def step(self, g):
        gamma, sigma = self.gammas(self.t), self.sigmas(self.t)
        self.left_m *= 1 - gamma
        self.left_v *= 1 - sigma
        for index in np.ndindex(*self.w.shape):
            self.m[index] = (1 - gamma) * self.m.get(index, 0.0) + gamma * g[index]
            self.v[index] = (1 - sigma) * self.v.get(index, 0.0) + sigma * g[index] ** 2
            m, v = self.m[index], self.v[index]
            if self.unbiased:
                m, v = m / (1 - self.left_m), v / (1 - self.left_v)
            if m / (v**0.5 + 1e-10) * self.w[index] > self.threshold:
                self.w[index] = -self.w[index]
        self.t += 1
        return self.w


class DiodeReference:
    """Sign of an average of signs of an average (Guo et al., ECCV 2024), float64.

    ``uniforms`` are the random numbers in [0, 1) of the start; a zero becomes +1, as published.
    """

    def __init__(self, weights, uniforms, beta1, beta2, lr):
        self.w = signs(weights)
        self.s = -self.w * uniforms * 1e-3
        self.momentum = np.zeros_like(self.w)
        self.beta1, self.beta2, self.lr = beta1, beta2, lr

    def step(self, g):
        self.momentum = self.beta1 * self.momentum + (1 - self.beta1) * g
        vote = (self.momentum > 0).astype(float) - (self.momentum < 0)
        self.s = self.beta2 * self.s + (1 - self.beta2) * self.lr * vote
        self.w = np.where(self.s > 0, -1.0, 1.0)
        return self.w


class SGDATReference:
    """Accumulator m -= lr g; follows the sign of m beyond tau times its own flips; float64."""

    def __init__(self, weights, lr, tau):
        self.w = signs(weights)
        self.m = np.zeros(self.w.shape)
        self.n = np.zeros(self.w.shape, int)
        self.lr, self.tau = lr, tau

    def step(self, g):
        self.m -= self.lr * g
        before = self.w
        self.w = np.where(np.abs(self.m) > self.tau * self.n, np.sign(self.m), before)
        self.n += self.w != before
        return self.w


class BOATReference:
    """m = (1 - lambda) m - g; follows the sign of m outside the band sqrt(v), v += eta g^2."""

    def __init__(self, weights, decay, eta):
        self.w = signs(weights)
        self.m = np.zeros(self.w.shape)
        self.v = np.zeros(self.w.shape)
        self.decay, self.eta = decay, eta

    def step(self, g):
        self.v += self.eta * np.square(g)
        self.m = (1 - self.decay) * self.m - g
        outside = np.square(self.m) > self.v
        self.w[outside] = np.sign(self.m[outside])
        return self.w


class BOLDReference:
    """Boolean accumulator (arXiv 2405.16339): m = beta m + eta q, fires at m w >= 1; float64."""

    def __init__(self, weights, eta):
        self.w = signs(weights)
        self.m = np.zeros(self.w.size)
        self.eta, self.beta = eta, 1.0

    def step(self, q):
        self.m = self.beta * self.m + self.eta * q.ravel()
        w, fired = self.w.reshape(-1), 0
        for i in range(w.size):
            if self.m[i] * w[i] >= 1:
                w[i], self.m[i], fired = -w[i], 0.0, fired + 1
        self.beta = (w.size - fired) / w.size
        return self.w


class ProbBopReference:
    """Bop by chance near the threshold (He et al., 2025), one weight at a time, float64.

    ``uniforms(t)`` gives the random numbers of step t. ``sigma`` None: without second moment.
    """

    def __init__(self, weights, uniforms, gamma, tau, a, steps_per_epoch, sigma, counted):
        self.w = signs(weights)
        self.m, self.v = np.zeros(self.w.shape), np.zeros(self.w.shape)
        self.flips = np.zeros(self.w.shape)
        self.uniforms, self.gamma, self.tau, self.a = uniforms, gamma, tau, a
        self.steps_per_epoch, self.sigma, self.counted, self.t = steps_per_epoch, sigma, counted, 0

    def step(self, g):
        epoch = self.t // self.steps_per_epoch
        c = 1 - self.a ** (epoch // 10) / 2
        u = self.uniforms(self.t)
        self.m = (1 - self.gamma) * self.m + self.gamma * g
        if self.sigma is not None:
            self.v = (1 - self.sigma) * self.v + self.sigma * g**2
        for index in np.ndindex(*self.w.shape):
            if np.sign(self.m[index]) != self.w[index]:
                continue
            delta = abs(self.m[index]) / self.tau
            if self.sigma is not None:
                delta /= np.sqrt(self.v[index]) + 1e-10
            if self.counted:
                delta /= 1 + self.flips[index]
            if delta <= c:
                continue
            if delta > 1 / c or u[index] < 1 - np.exp(-delta):
                self.w[index] *= -1
                self.flips[index] += 1
        self.t += 1
        return self.w


class EqualBitsReference:
    """Two averages, then half of each column to +1 by rank; columns of even length, no ties."""

    def __init__(self, weights, alpha, gamma):
        self.w = signs(weights)
        self.m, self.h = np.zeros(self.w.shape), np.zeros(self.w.shape)
        self.alpha, self.gamma = alpha, gamma

    def step(self, g):
        self.m = (1 - self.gamma) * self.m + self.gamma * g
        self.h = (1 - self.alpha) * self.h + self.alpha * self.m
        middle = np.median(self.h, axis=0)
        self.w = np.where(self.h > middle, -1.0, 1.0)
        return self.w


class LogOddsReference:
    """The rule of BayesBiNN (arXiv 2002.10778), one sample a step; ``step(g, noise) -> sign``.

    ``draw(u)`` gives the weights at which the gradient is to be taken. ``delayed``: the mean mu in
    the gain is of the lambda one step earlier, as in the released code. ``tanh`` is that of the
    gain: its precision decides how large the first one is.
    """

    temperature, count, tiny = 1e-10, 500_000, 1e-10

    def __init__(self, weights, rates, delayed=False, tanh=np.tanh):
        self.lam = 10 * signs(weights)
        self.rates, self.delayed, self.tanh, self.t = rates, delayed, tanh, 0
        self.mu = tanh(self.lam)

    def draw(self, u):
        self.q = np.tanh((self.lam + np.log(u / (1 - u)) / 2) / self.temperature)
        return self.q

    def step(self, g):
        gain = (1 - self.q**2 + self.tiny) / self.temperature / (1 - self.mu**2 + self.tiny)
        rate, before = self.rates(self.t), self.lam
        self.lam = (1 - rate) * self.lam - rate * self.count * gain * g
        self.mu = self.tanh(before if self.delayed else self.lam)
        self.t += 1
        return np.where(self.lam < 0, -1.0, 1.0)


class AverageReference:
    """The sign against one average, w = (1 - alpha) w - alpha g on a latent weight; float64."""

    def __init__(self, weights, alpha):
        self.w, self.latent, self.alpha = signs(weights), 0.0, alpha

    def step(self, g):
        self.latent = (1 - self.alpha) * self.latent - self.alpha * g
        return np.where(self.latent < 0, -1.0, 1.0)


class FilterGradientDescentReference:
    """SGD on latent weights from 0 by filtered gradients, decoupled decay; float64.

    ``filtered`` is a generator function that is sent gradients and gives those that SGD takes.
    """

    def __init__(self, weights, filtered, eps, decay):
        self.latent, self.eps, self.decay, self.t = np.zeros(np.shape(weights)), eps, decay, 0
        self.filtered = filtered()
        next(self.filtered)

    def step(self, g):
        eps = self.eps(self.t)
        self.latent = (1 - eps * self.decay) * self.latent - eps * self.filtered.send(g)
        self.t += 1
        return np.where(self.latent < 0, -1.0, 1.0)


def ma_two(a1, a2):
    """Yang's MA(2): the gradient and shares of the two before it."""
    one = two = 0.0
    g = yield
    while True:
        output = g + a1 * one + a2 * two
        one, two = g, one
        g = yield output


def ar_two(b1, b2):
    """Yang's AR(2): the gradient and shares of the last two outputs."""
    one = two = 0.0
    g = yield
    while True:
        one, two = g + b1 * one + b2 * two, one
        g = yield one


def kalman_five():
    """Yang's Kalman filter with sQ 0.01, sR 2, c 5, P_0 0.01."""
    x, p = 0.0, 0.01
    g = yield
    while True:
        p = 25.0 * p + 0.01
        k = p / (2.0 + p)
        x = 5.0 * x
        x, p = (1 - k) * x + k * g, (1 - k) * p
        g = yield x


class StochasticRoundingReference:
    """Adam's step on a weight of -1 or +1, rounded to one of the two at random; float64.

    ``uniforms(t)`` gives the numbers of step t: a proposed weight goes back where that is below the
    share of the way that it has come.
    """

    def __init__(self, weights, uniforms, lr, beta1, beta2, epsilon):
        self.w = signs(weights)
        self.m, self.v, self.t = np.zeros(self.w.shape), np.zeros(self.w.shape), 0
        self.uniforms, self.lr, self.epsilon = uniforms, lr, epsilon
        self.beta1, self.beta2 = beta1, beta2

    def step(self, g):
        u = self.uniforms(self.t)
        self.t += 1
        self.m = self.beta1 * self.m + (1 - self.beta1) * g
        self.v = self.beta2 * self.v + (1 - self.beta2) * g**2
        mean, power = self.m / (1 - self.beta1**self.t), self.v / (1 - self.beta2**self.t)
        proposed = np.clip(self.w - self.lr * mean / (np.sqrt(power) + self.epsilon), -1, 1)
        is_up = np.where(self.w > 0, u >= (1 - proposed) / 2, u < (proposed + 1) / 2)
        self.w = np.where(is_up, 1.0, -1.0)
        return self.w


def uniform(shape, seed, kernel, step):
    """The documented random numbers, one at a time in Python's integers."""
    word = 2**32

    def mix(x):
        x = (x ^ x >> 16) * 0x21F0AAAD % word
        x = (x ^ x >> 15) * 0x735A2D97 % word
        return x ^ x >> 15

    key = mix((mix((mix(seed % word) + kernel) % word) + step) % word)
    numbers = [
        mix(mix((index + key) % word) ^ mix((key + 1) % word)) // 256 / 2**24
        for index in range(int(np.prod(shape)))
    ]
    return np.reshape(numbers, shape)


def stops_and_continues(f) -> None:
    """20 steps, keep the state, the rest: the same bits as in one go."""
    x = np.random.default_rng(1).normal(size=(60, 4))
    whole, end = f.run(x)
    first, state = f.run(x[:20])
    second, state = f.run(x[20:], state, first_step=20)
    np.testing.assert_array_equal(np.concatenate([first, second]), whole)
    for array, expected in zip(state, end, strict=True):
        np.testing.assert_array_equal(array, expected)
