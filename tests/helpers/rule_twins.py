"""Twins of the latent rules: in NumPy, from the papers, without a line of the rules themselves."""

import numpy as np


class Twin:
    """What a paper says, one weight or one unit at a time where that is plainer."""

    def before(self, g, w, t):
        return g

    def after(self, old, new, t):
        return new


class ClipTwin(Twin):
    def after(self, old, new, t):
        new = new.copy()
        new[new > 0.7] = 0.7
        new[new < -0.7] = -0.7
        return new


class GlorotTwin(Twin):
    def after(self, old, new, t):  # 8 in, 6 out: 1.5 / 14
        return old + (new - old) / np.sqrt(0.10714285714285714)


class ClippingTwin(Twin):
    def before(self, g, w, t):
        g = g.copy()
        for unit in range(g.shape[-1]):
            most = 0.5 * max(np.linalg.norm(w[..., unit].ravel()), 1e-3)
            size = np.linalg.norm(g[..., unit].ravel())
            if size >= most:
                g[..., unit] *= most / size
        return g


class SilentTwin(Twin):
    def __init__(self, share, decay, momentum, threshold, start):
        self.share, self.decay, self.momentum = share, decay, momentum
        self.threshold, self.start = threshold, start
        self.tracker = self.previous = None

    def before(self, g, w, t):
        g = g.copy()
        if self.tracker is None:
            self.tracker, self.previous = np.full(w.shape, self.start), w.copy()
        for unit in range(g.shape[-1]):
            size = np.sqrt((g[..., unit] ** 2).sum())
            weights = np.sqrt((w[..., unit] ** 2).sum())
            if size < self.share * weights:
                g[..., unit] *= self.share * weights / size
        self.tracker *= self.momentum
        self.tracker[np.signbit(w) != np.signbit(self.previous)] += 1 - self.momentum
        self.previous = w.copy()
        silent = self.tracker < self.threshold
        g[silent] += self.decay * w[silent]
        return g


class BipolarTwin(Twin):
    """The gradient of 0.05 (1 - w^2), taken as a difference, which is exact for a square."""

    def before(self, g, w, t):
        return g + 0.05 * ((1 - (w + 0.5) ** 2) - (1 - (w - 0.5) ** 2))


class ProxTwin(Twin):
    """The weight goes to the nearer of -1 and +1, and does not pass it."""

    def after(self, old, new, t):
        rate = 2e-3 * min(t, 400) / 400
        target = np.where(new > 0, 1.0, -1.0)
        return new + np.clip(target - new, -rate, rate)


class MirrorTwin(Twin):
    """As published: multiplied within (1 + w) / (1 - w)."""

    def after(self, old, new, t):
        odds = (1 + old) / (1 - old) * np.exp(2 * 1.1 ** (t // 100) * (new - old))
        return (odds - 1) / (odds + 1)


class ConcaveTwin(Twin):
    def after(self, old, new, t):
        return np.clip(new * (1 + 2 * 1e-3 * min(t, 400) / 400), -1, 1)


class MetaplasticTwin(Twin):
    def after(self, old, new, t):
        w = new.copy()
        for index in np.ndindex(w.shape):
            a, b = old[index], new[index]
            if (a > 0 and b < a) or (a < 0 and b > a):
                w[index] = a + (b - a) / np.cosh(1.35 * a) ** 2
        return w


class Together(Twin):
    def __init__(self, *twins):
        self.twins = twins

    def before(self, g, w, t):
        for twin in self.twins:
            g = twin.before(g, w, t)
        return g

    def after(self, old, new, t):
        for twin in self.twins:
            new = twin.after(old, new, t)
        return new
