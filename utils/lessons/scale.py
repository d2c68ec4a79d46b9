"""The code of lesson 21_scale, for the pages after it.

Made from the cells tagged `export` of notebooks/21_scale.ipynb.
Never edit: change the page, then `make made`.
"""

import math

import numpy as np
from scipy.optimize import minimize

from utils.lessons.modern_decoders import LlamaConfig, head_counts


def matrices(config):
    """The weights that every token is multiplied with, {part: how many}, of a GPT or a LLaMA.

    The head counts even where it is tied: the one table is read as a table and as a matrix.
    """
    D, L, gated = config.d_model, config.n_layers, isinstance(config, LlamaConfig)
    H = config.n_heads
    H, G, K = head_counts(config) if gated else (H, H, D // H)
    return {
        "attention": L * (D * (H + 2 * G) * K + H * K * D),
        "feed_forward": L * (3 * D * config.d_ff if gated else 8 * D * D),
        "head": config.vocab_size * D,
    }


def parameters(config):
    """All that a model of this shape learns, {part: how many}."""
    D, L, V = config.d_model, config.n_layers, config.vocab_size
    parts = matrices(config)
    if isinstance(config, LlamaConfig):
        parts["head"] *= not config.tied
        return parts | {"vectors": (2 * L + 1) * D, "tables": V * D}
    parts["head"] = 0  # GPT's is tied
    vectors = L * 9 * D + (2 * L + 1) * 2 * D  # biases, 4 D and 5 D a block; norms
    return parts | {"vectors": vectors, "tables": (V + config.n_positions) * D}


def forward_flops(config, T):
    """FLOPs to read T tokens at once: matrices, then scores and mixtures of all heads."""
    D, H = config.d_model, config.n_heads
    width = H * head_counts(config)[2] if isinstance(config, LlamaConfig) else D
    return 2 * T * sum(matrices(config).values()) + 4 * config.n_layers * T * T * width


def training_flops(config, tokens, T):
    """FLOPs to train on `tokens` tokens in texts of T: forward, and twice as much backward."""
    return 3 * forward_flops(config, T) * tokens / T


TRAINING_BYTES = 16  # a parameter: master 4, AdamW 8, bf16 copy 2, its gradient 2


def cache_bytes(config, T, bytes_each=2):
    """The keys and values of T tokens."""
    gated = isinstance(config, LlamaConfig)
    _, G, K = head_counts(config) if gated else (1, 1, config.d_model)
    return 2 * config.n_layers * G * K * T * bytes_each


def line_fit(n, loss):
    """Slope and height of log loss over log n; the exponent is minus the slope."""
    return np.polyfit(np.log(n), np.log(loss), 1)


def interval(values, level=0.95):
    """The middle share of the values, from and to."""
    return tuple(float(q) for q in np.quantile(values, [(1 - level) / 2, (1 + level) / 2]))


def log_law(theta, n, tokens):
    """log (E + A / n^alpha + B / tokens^beta), and the share of each term, (3, points).

    theta: log E, log A, log B, alpha, beta
    """
    e, a, b, alpha, beta = theta
    terms = np.stack([e + 0 * np.log(n), a - alpha * np.log(n), b - beta * np.log(tokens)])
    value = np.logaddexp.reduce(terms)
    return value, np.exp(terms - value)


def misfit(theta, n, tokens, loss, delta=1e-3):
    """How far the law is off, Huber's loss of the difference in logs, and its gradient."""
    value, shares = log_law(theta, n, tokens)
    off = value - np.log(loss)
    inside = np.abs(off) <= delta
    total = np.where(inside, off**2 / 2, delta * (np.abs(off) - delta / 2)).sum()
    slope = np.where(inside, off, delta * np.sign(off)) * shares  # (3, points)
    by_power = -(slope[1] * np.log(n)).sum(), -(slope[2] * np.log(tokens)).sum()
    return total / delta, np.array([*slope.sum(1), *by_power]) / delta


STARTS = [(e, a, b, alpha, beta) for e in (-1, 0.5) for a in (-1, 0.5) for b in (-1, 0.5)
          for alpha in (0.2, 0.6) for beta in (0.2, 0.6)]  # fmt: skip


def fit_law(n, tokens, loss, starts=STARTS):
    """The law that fits best: theta, from the best of many starts.

    Source: Hoffmann et al. 2022, section 3.3.
    """
    options = {"maxiter": 5000, "ftol": 1e-12, "gtol": 1e-9}
    how = {"jac": True, "method": "L-BFGS-B", "options": options}
    found = [minimize(misfit, x0, (n, tokens, loss), **how) for x0 in starts]
    return min(found, key=lambda result: result.fun).x


def best_size(theta, product):
    """The size n with the lowest loss among all with n · tokens = product (that is, C / 6).

    Source: Hoffmann et al. 2022, equation 4. In the units in which theta was fitted.
    """
    _, a, b, alpha, beta = theta
    g = (alpha * math.exp(a) / (beta * math.exp(b))) ** (1 / (alpha + beta))
    return g * product ** (beta / (alpha + beta))
