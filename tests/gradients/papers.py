"""The structured approximations as float64 NumPy loops, from their papers' recursions and derivatives by hand.

A network has one matrix W on ĥ = [h; 1; x; 1], with as many rows as pre-activations, and the loss |V s - y|² of the
whole state s. Every loop gives dL/dW, its columns in that order.
"""

import numpy as np


def _sigmoid(a):
    return 1 / (1 + np.exp(-a))


class Tanh:
    """h′ = (1 - α) h + α tanh(W ĥ)."""

    def __init__(self, alpha=1.0):
        self.alpha = alpha

    def step(self, weight, state, x):
        """s′, ĥ, ∂s′/∂s, ∂s′/∂(W ĥ), and ∂s′/∂s at fixed W ĥ."""
        n = len(state)
        entering = np.concatenate([state, [1], x, [1]])
        new = np.tanh(weight @ entering)
        slope = np.diag(self.alpha * (1 - new**2))
        own = (1 - self.alpha) * np.eye(n)
        return (1 - self.alpha) * state + self.alpha * new, entering, own + slope @ weight[:, :n], slope, own


class LSTM:
    """s = (h, c), gates in the order i, f, g, o."""

    def step(self, weight, state, x):
        """As of `Tanh`."""
        h, c = np.split(state, 2)
        n = len(h)
        entering = np.concatenate([h, [1], x, [1]])
        a_i, a_f, a_g, a_o = np.split(weight @ entering, 4)
        i, f, g, o = _sigmoid(a_i), _sigmoid(a_f), np.tanh(a_g), _sigmoid(a_o)
        new_c = f * c + i * g
        t = np.tanh(new_c)
        of_c = np.hstack([np.diag(v) for v in (i * (1 - i) * g, f * (1 - f) * c, i * (1 - g**2), np.zeros(n))])
        through_c = o * (1 - t**2)
        of_h = through_c[:, None] * of_c
        of_h[:, 3 * n :] += np.diag(o * (1 - o) * t)
        by_gates = np.vstack([of_h, of_c])
        own = np.zeros((2 * n, 2 * n))
        own[n:, n:], own[:n, n:] = np.diag(f), np.diag(through_c * f)
        full = own.copy()
        full[:, :n] += by_gates @ weight[:, :n]
        return np.concatenate([o * t, new_c]), entering, full, by_gates, own


def _error(read, state, y):
    return 2 * (read @ state - y)


def kf_rtrl(cell, weight, read, state, xs, ys, signs):
    """Mujika et al. 2018, algorithm 1; signs (T, 2)."""
    u, matrix, total = 0.0, 0.0, np.zeros_like(weight)
    for x, y, (c1, c2) in zip(xs, ys, signs, strict=True):
        state, entering, onward, slope, _ = cell.step(weight, state, x)
        p2 = np.sqrt(np.linalg.norm(slope) / np.linalg.norm(entering))
        if np.ndim(u):
            pushed = onward @ matrix
            p1 = np.sqrt(np.linalg.norm(pushed) / np.linalg.norm(u))
            u, matrix = c1 * p1 * u + c2 * p2 * entering, c1 / p1 * pushed + c2 / p2 * slope
        else:
            u, matrix = c2 * p2 * entering, c2 / p2 * slope
        total += np.outer(read.T @ _error(read, state, y) @ matrix, u)
    return total


def ok(cell, weight, read, state, xs, ys, signs):
    """Benzing et al. 2019, algorithms 1 and 2; signs (T, rank + 1)."""
    rank = signs.shape[1] - 1
    us, matrices, total = [], [], np.zeros_like(weight)
    for x, y, sign in zip(xs, ys, signs, strict=True):
        state, entering, onward, slope, _ = cell.step(weight, state, x)
        us, matrices = [*us, entering], [*(onward @ matrix for matrix in matrices), slope]
        if len(us) > rank:
            us, matrices = _fewer(np.array(us), np.array(matrices), sign)
        signal = read.T @ _error(read, state, y)
        total += sum(np.outer(signal @ matrix, u) for u, matrix in zip(us, matrices, strict=True))
    return total


def _fewer(us, matrices, sign):
    """rank + 1 terms as rank, in the bases that Gram and Schmidt make."""
    basis_u, basis_a = _gram_schmidt(us), _gram_schmidt(matrices.reshape(len(us), -1))
    left, d, right = np.linalg.svd((us @ basis_u.T).T @ (matrices.reshape(len(us), -1) @ basis_a.T))
    q = len(d)
    m = next(m for m in range(1, q + 1) if (q - m) * d[m - 1] <= d[m - 1 :].sum() + 1e-15)
    k, s1 = q - m, d[m - 1 :].sum()
    z = np.sqrt(np.maximum(0, 1 - k * d[m - 1 :] / s1))
    free = np.linalg.svd(z[None])[2][1:].T  # (k + 1, k), orthonormal and orthogonal to z
    mixing = np.zeros((q, q - 1))
    mixing[: m - 1, : m - 1] = np.diag(np.sqrt(d[: m - 1]))
    mixing[m - 1 :, m - 1 :] = np.sqrt(s1 / k) * sign[m - 1 :, None] * free
    new_us = (left @ mixing).T @ basis_u
    return list(new_us), list(((right.T @ mixing).T @ basis_a).reshape(-1, *matrices.shape[1:]))


def _gram_schmidt(vectors):
    basis = []
    for vector in vectors:
        for b in basis * 2:
            vector = vector - (b @ vector) * b
        basis.append(vector / np.linalg.norm(vector))
    return np.array(basis)


def traces(cell, weight, read, state, xs, ys, feedback=None):
    """RFLO (Murray 2019, eq. 7 and 8) and e-prop 1 (Bellec et al. 2019): one trace for each number of s and weight."""
    trace = np.zeros((len(state), *weight.shape))
    total = np.zeros_like(weight)
    for x, y in zip(xs, ys, strict=True):
        state, entering, _, slope, own = cell.step(weight, state, x)
        trace = np.einsum("ij,jab->iab", own, trace) + slope[:, :, None] * entering
        signal = read.T @ _error(read, state, y)
        if feedback is not None:
            signal = np.zeros(len(state))
            signal[: len(feedback)] = feedback @ _error(read, state, y)
        total += np.einsum("i,iab->ab", signal, trace)
    return total


def exact(cell, weight, read, state, xs, ys):
    """Real-time recurrent learning."""
    influence, total = np.zeros((len(state), *weight.shape)), np.zeros_like(weight)
    for x, y in zip(xs, ys, strict=True):
        state, entering, onward, slope, _ = cell.step(weight, state, x)
        influence = np.einsum("ij,jab->iab", onward, influence) + slope[:, :, None] * entering
        total += np.einsum("i,iab->ab", read.T @ _error(read, state, y), influence)
    return total


def dni(cell, weight, read, state, xs, ys, k, matrix, bias, rate):
    """Jaderberg et al. 2016, section 3.1, with a linear synthesizer and normalised descent: dL/dW, and that one."""
    total, size = np.zeros_like(weight), len(xs)
    for begin in range(0, size, k):
        start, steps = state, []
        for x, y in zip(xs[begin : begin + k], ys[begin : begin + k], strict=True):
            state, entering, onward, slope, _ = cell.step(weight, state, x)
            steps.append((entering, onward, slope, read.T @ _error(read, state, y)))
        is_last = begin + k >= size
        signal = np.zeros(len(state)) if is_last else matrix @ state + bias
        for entering, onward, slope, now in reversed(steps):
            signal = signal + now
            total += np.outer(signal @ slope, entering)
            signal = signal @ onward
        if not is_last:
            away = (matrix @ start + bias - signal) / (1 + start @ start)
            matrix, bias = matrix - rate * np.outer(away, start), bias - rate * away
    return total, matrix, bias
