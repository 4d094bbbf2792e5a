"""Independent references for a case's outputs and derivatives: a NumPy loop, and torch.

Both return output, h_n and c_n; the derivatives are those of the sum of all outputs, weighted by a case's weights.
"""

from typing import Any

import numpy as np
import scipy.linalg

from .cases import DROPOUT, FEATURES, HIDDEN, PROJECTED, Case


def _sigmoid(a: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-a))


def _relu(a: np.ndarray) -> np.ndarray:
    return np.where(a.real > 0, a, 0)


def numpy_step(kind: str, p: dict[str, np.ndarray], x: np.ndarray, h: np.ndarray, c: Any) -> tuple[np.ndarray, Any]:
    """One step of one cell for one sequence, from torch's documentation: x (I,), h (R,), c (H,) or None."""
    from_x = p["weight_ih"] @ x + p.get("bias_ih", 0)
    from_h = p["weight_hh"] @ h + p.get("bias_hh", 0)
    if kind == "rnn_tanh":
        return np.tanh(from_x + from_h), None
    if kind == "rnn_relu":
        return _relu(from_x + from_h), None
    if kind == "gru_reset_before":
        (xr, xz, xn), (hr, hz, _) = np.split(from_x, 3), np.split(from_h, 3)
        r, z = _sigmoid(xr + hr), _sigmoid(xz + hz)
        n = np.tanh(xn + np.split(p["weight_hh"], 3)[2] @ (r * h) + np.split(p.get("bias_hh", 0 * from_h), 3)[2])
        return (1 - z) * n + z * h, None
    if kind == "gru":
        xr, xz, xn = np.split(from_x, 3)
        hr, hz, hn = np.split(from_h, 3)
        r, z = _sigmoid(xr + hr), _sigmoid(xz + hz)
        return (1 - z) * np.tanh(xn + r * hn) + z * h, None
    if kind.startswith("mgu"):
        (xf, xn), (hf, hn) = np.split(from_x, 2), np.split(from_h, 2)
        f = _sigmoid(xf + hf)
        return (1 - f) * np.tanh(xn + (hn if kind == "mgu_without_reset" else f * hn)) + f * h, None
    i, f, g, o = np.split(from_x + from_h, 4)
    if kind == "lstm_peephole":
        w_ci, w_cf, w_co = np.split(p["weight_ch"], 3)
        after = _sigmoid(f + w_cf * c) * c + _sigmoid(i + w_ci * c) * np.tanh(g)
        return _sigmoid(o + w_co * after) * np.tanh(after), after
    c = _sigmoid(f) * c + _sigmoid(i) * np.tanh(g)
    h = _sigmoid(o) * np.tanh(c)
    return (p["weight_hr"] @ h if "weight_hr" in p else h), c


def numpy_convolution(x: np.ndarray, weight: np.ndarray, pad: str = "constant") -> np.ndarray:
    """weight ∗ x place by place: x (height, width, I), weight (O, I, kernel height, kernel width)."""
    sizes = weight.shape[2:]
    padded = np.pad(x, [*(((size - 1) // 2, size // 2) for size in sizes), (0, 0)], mode=pad)
    y = np.empty((*x.shape[:2], weight.shape[0]))
    for row, column in np.ndindex(*x.shape[:2]):
        patch = padded[row : row + sizes[0], column : column + sizes[1]]
        y[row, column] = np.einsum("hwi,oihw->o", patch, weight)
    return y


def numpy_conv_lstm_step(
    p: dict[str, np.ndarray], x: np.ndarray, h: np.ndarray, c: np.ndarray, pad: str = "constant"
) -> tuple[np.ndarray, np.ndarray]:
    """One step for one sequence of images, from the paper, without peepholes: x (height, width, I), h, c (·, ·, H)."""
    a = numpy_convolution(x, p["weight_ih"], pad) + numpy_convolution(h, p["weight_hh"], pad)
    i, f, g, o = np.split(a + p.get("bias_ih", 0) + p.get("bias_hh", 0), 4, axis=-1)
    c = _sigmoid(f) * c + _sigmoid(i) * np.tanh(g)
    return _sigmoid(o) * np.tanh(c), c


# What the cells of the table that have them were made with.
LEAK, ANTISYMMETRIC, OSCILLATORS = 0.3, (0.3, 0.1), (0.3, 1.5, 0.7)
REMEDIES = ["leaky", "indrnn", "antisymmetric", "cornn", "orthogonal", "orthogonal_gru", "slstm"]
REMEDIES += ["layer_norm_rnn", "layer_norm_gru", "layer_norm_lstm"]


def numpy_remedy(kind: str, p: dict[str, np.ndarray], x: np.ndarray, state: list[np.ndarray]) -> list[np.ndarray]:
    """One step of one cell for one sequence, from its paper: x (I,), a state of (H,) each."""
    h = state[0]
    if kind.startswith("layer_norm"):
        return _layer_norm_step(kind.removeprefix("layer_norm_"), p, x, *state)
    if kind.startswith("orthogonal"):
        blocks = [
            scipy.linalg.expm(block - block.T) for block in np.split(p["weight_hh"], len(p["weight_hh"]) // len(h))
        ]
        rotated = p | {"weight_hh": np.concatenate(blocks)}
        return [numpy_step("gru" if kind == "orthogonal_gru" else "rnn_tanh", rotated, x, h, None)[0]]
    from_x, b = p["weight_ih"] @ x + p["bias_ih"], p["bias_hh"]
    if kind == "leaky":
        return [(1 - LEAK) * h + LEAK * np.tanh(from_x + p["weight_hh"] @ h + b)]
    if kind == "indrnn":
        return [np.maximum(0, from_x + p["weight_hh"] * h + b)]
    if kind == "antisymmetric":
        step, damping = ANTISYMMETRIC
        return [h + step * np.tanh(from_x + (p["weight_hh"] - p["weight_hh"].T - damping * np.eye(len(h))) @ h + b)]
    if kind == "cornn":
        step, gamma, epsilon = OSCILLATORS
        y, z = state
        z = z + step * (np.tanh(from_x + p["weight_hh"] @ np.concatenate(state) + b) - gamma * y - epsilon * z)
        return [y + step * z, z]
    assert kind == "slstm"
    h, c, n, m = state
    i, f, g, o = np.split(from_x + p["weight_hh"] @ h + b, 4)
    following = i if not n.any() else np.maximum(np.log(_sigmoid(f)) + m, i)
    c, n = c * np.exp(m), n * np.exp(m)  # what they would be without the stabiliser
    c, n = _sigmoid(f) * c + np.exp(i) * np.tanh(g), _sigmoid(f) * n + np.exp(i)
    return [_sigmoid(o) * c / n, c * np.exp(-following), n * np.exp(-following), following]


def _layer_norm_step(kind: str, p: dict[str, np.ndarray], x: np.ndarray, h: np.ndarray, *c: Any) -> list[np.ndarray]:
    """Layer normalisation, from the equations in the supplement of arXiv:1607.06450."""

    def normalised(a: np.ndarray, gain: np.ndarray, bias: np.ndarray) -> np.ndarray:
        return gain * (a - a.mean()) / np.sqrt(a.var() + 1e-5) + bias

    from_x, from_h = p["weight_ih"] @ x, p["weight_hh"] @ h
    if kind == "rnn":
        return [np.tanh(normalised(from_x + from_h, p["gain"], p["bias"]))]
    if kind == "gru":
        both = slice(0, 2 * len(h)), slice(2 * len(h), None)
        zs = [normalised(from_x[part], p["gain_ih"][part], p["bias_ih"][part]) for part in both]
        rs = [normalised(from_h[part], p["gain_hh"][part], p["bias_hh"][part]) for part in both]
        r, u = np.split(_sigmoid(zs[0] + rs[0]), 2)
        return [(1 - u) * np.tanh(zs[1] + r * rs[1]) + u * h]
    gates = normalised(from_x, p["gain_ih"], p["bias_ih"]) + normalised(from_h, p["gain_hh"], p["bias_hh"])
    i, f, g, o = np.split(gates, 4)
    new = _sigmoid(f) * c[0] + _sigmoid(i) * np.tanh(g)
    return [_sigmoid(o) * np.tanh(normalised(new, p["gain_c"], p["bias_c"])), new]


def numpy_network(case: Case, inputs: dict[str, Any]) -> dict[str, np.ndarray]:
    """A network as loops over sequences, layers, directions and steps; in whatever dtype the inputs have."""
    x = inputs["x"]
    if not case.batched:
        x = x[:, None]
    elif case.batch_first:
        x = x.swapaxes(0, 1)
    steps, batch = x.shape[:2]
    lengths = [steps] * batch if inputs["lengths"] is None else inputs["lengths"]
    parts = [_numpy_sequence(case, inputs, x[:length, n], n) for n, length in enumerate(lengths)]
    padded = [np.concatenate([out, np.zeros((steps - len(out), *out.shape[1:]))]) for out, _, _ in parts]
    output = np.stack(padded, axis=0 if case.batched and case.batch_first else 1)
    finals = {
        "output": output,
        "h_n": np.stack([h for _, h, _ in parts], 1),
        "c_n": np.stack([c for *_, c in parts], 1),
    }
    if not case.batched:
        finals = {"output": output[:, 0], "h_n": finals["h_n"][:, 0], "c_n": finals["c_n"][:, 0]}
    return {name: finals[name] for name in inputs["weights"]}


def _numpy_sequence(case: Case, inputs: dict[str, Any], xs: np.ndarray, n: int) -> tuple[np.ndarray, ...]:
    """Output, final h and final c, (layers*directions, ·), of one sequence xs (T, I), the n-th of the batch."""
    finals_h, finals_c = [], []
    for layer in range(case.num_layers):
        outputs = []
        for direction in range(case.directions):
            suffix = f"_l{layer}" + ("_reverse" if direction else "")
            p = {name.removesuffix(suffix): a for name, a in inputs["params"].items() if name.endswith(suffix)}
            h, c = _initial(case, inputs, len(finals_h), n)
            hs = []
            for x in xs[::-1] if direction else xs:
                h, c = numpy_step(case.kind, p, x, h, c)
                hs.append(h)
            finals_h.append(h)
            finals_c.append(h if c is None else c)
            outputs.append(hs[::-1] if direction else hs)
        ys = np.concatenate([np.array(o).reshape(len(xs), -1) for o in outputs], axis=-1)
        last = layer == case.num_layers - 1
        xs = np.zeros_like(ys) if case.dropout == "all" and not last else ys
    return ys, np.array(finals_h), np.array(finals_c)


def _initial(case: Case, inputs: dict[str, Any], index: int, n: int) -> tuple[np.ndarray, Any]:
    widths = case.state_widths
    if inputs["states"] is None:
        return np.zeros(widths["h"]), np.zeros(widths["c"]) if "c" in widths else None
    states = [a[index] if a.ndim == 2 else a[index, n] for a in inputs["states"].values()]
    return states[0], states[1] if len(states) == 2 else None


def directional_derivative(case: Case, inputs: dict[str, Any], direction: dict[str, Any]) -> float:
    """Of the weighted sum of the NumPy outputs, exact to rounding: the imaginary part after a tiny imaginary step."""
    step = 1e-30
    moved = dict(inputs)
    for name in ("params", "states"):
        if inputs[name] is not None:
            moved[name] = {key: a + 1j * step * direction[key] for key, a in inputs[name].items()}
    moved["x"] = inputs["x"] + 1j * step * direction["x"]
    outputs = numpy_network(case, moved)
    return sum(float(np.sum(weight * outputs[name].imag)) for name, weight in inputs["weights"].items()) / step


def torch_module(case: Case, dtype: Any) -> Any:
    """The torch.nn layer of a case."""
    import torch

    options = {"num_layers": case.num_layers, "bias": case.bias, "batch_first": case.batch_first, "dtype": dtype}
    options |= {"dropout": DROPOUT[case.dropout], "bidirectional": case.bidirectional}
    if case.kind.startswith("rnn"):
        module = torch.nn.RNN(FEATURES, HIDDEN, nonlinearity=case.kind.removeprefix("rnn_"), **options)
    elif case.kind == "gru":
        module = torch.nn.GRU(FEATURES, HIDDEN, **options)
    else:
        module = torch.nn.LSTM(FEATURES, HIDDEN, proj_size=PROJECTED if case.kind == "lstm_proj" else 0, **options)
    return module.train(case.dropout == "all")


def torch_network(case: Case, inputs: dict[str, Any], dtype: str) -> dict[str, np.ndarray]:
    """Outputs, and the gradient of their weighted sum by every parameter, x and the states as `d_NAME`."""
    import torch
    from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

    def tensor(a: np.ndarray) -> torch.Tensor:
        return torch.tensor(a, dtype=getattr(torch, dtype), requires_grad=True)

    module = torch_module(case, getattr(torch, dtype))
    module.load_state_dict({name: tensor(a) for name, a in inputs["params"].items()})
    leaves = dict(module.named_parameters()) | {"x": tensor(inputs["x"])}
    states = {name: tensor(a) for name, a in (inputs["states"] or {}).items()}
    h_0 = tuple(states.values()) if len(states) == 2 else states.get("h_0")
    x = leaves["x"]
    if inputs["lengths"] is not None:
        x = pack_padded_sequence(x, torch.tensor(inputs["lengths"]), case.batch_first, enforce_sorted=False)
    output, finals = module(x, h_0)
    if inputs["lengths"] is not None:
        output, _ = pad_packed_sequence(output, case.batch_first, total_length=leaves["x"].shape[case.batch_first])
    outputs = dict(zip(inputs["weights"], [output, *(finals if isinstance(finals, tuple) else [finals])], strict=True))
    total = sum((outputs[name] * tensor(weight)).sum() for name, weight in inputs["weights"].items())
    leaves |= states
    gradients = torch.autograd.grad(total, list(leaves.values()), allow_unused=True, materialize_grads=True)
    results = outputs | dict(zip((f"d_{name}" for name in leaves), gradients, strict=True))
    return {name: a.detach().numpy() for name, a in results.items()}
