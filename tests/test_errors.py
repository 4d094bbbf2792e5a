"""What is refused, with which error and in which words; and what is accepted although it looks odd.

A message must name the argument, what came and what was expected: in the tables ` … ` stands for any text between.
Among the entries are all checks of torch/nn/modules/rnn.py, those of its constructors under CONSTRUCTORS.
"""

import collections
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrnn as jr

KEY = jax.random.key(0)
X = np.ones((6, 2, 3), np.float32)  # T=6, batch 2, 3 features
HALF = np.float16


def zeros(*shape, dtype=np.float32):
    return np.zeros(shape, dtype)


def like(init):
    """Normal numbers in the shapes that an init gives, without compiling it."""
    random = np.random.RandomState(0)
    return jax.tree.map(lambda a: random.normal(size=a.shape).astype(np.float32), jax.eval_shape(init, KEY))


def with_dtype(tree, dtype):
    return jax.tree.map(lambda a: a.astype(dtype), tree)


STACK = jr.stack(jr.rnn, jr.lstm)
RNN, GRU, LSTM, PROJECTED, STACKED = (
    like(lambda key: jr.rnn.init(key, 3, 4)),
    like(lambda key: jr.gru.init(key, 3, 4)),
    like(lambda key: jr.lstm.init(key, 3, 4)),
    like(lambda key: jr.lstm.init(key, 3, 4, proj_size=2)),
    like(lambda key: STACK.init(key, 3, (4, 5))),
)
NET = jr.GRU(3, 4)
BATCH_FIRST = jr.GRU(3, 4, batch_first=True)
DEEP = jr.LSTM(3, 4, num_layers=2, bidirectional=True, proj_size=2)  # h_0 (4, 2, 2), c_0 (4, 2, 4)
LINEAR, EMBEDDING = jr.Linear(3, 2), jr.Embedding(4, 3)
W, W_DEEP, W_LINEAR, W_EMBEDDING = like(NET.init), like(DEEP.init), like(LINEAR.init), like(EMBEDDING.init)

CONSTRUCTORS = {
    "input_size 0": (lambda: jr.RNN(0, 4), ValueError, "input_size … at least 1 … got 0"),
    "input_size float": (lambda: jr.GRU(3.0, 4), TypeError, "input_size … int … got 3.0 … float"),
    "input_size bool": (lambda: jr.GRU(True, 4), TypeError, "input_size … int … got True … bool"),
    "hidden_size negative": (lambda: jr.LSTM(3, -1), ValueError, "hidden_size … at least 1 … got -1"),
    "hidden_size None": (lambda: jr.LSTM(3, None), TypeError, "hidden_size … int … got None"),
    "hidden_size missing": (lambda: jr.LSTM(3), TypeError, "hidden_size"),
    "num_layers 0": (lambda: jr.RNN(3, 4, 0), ValueError, "num_layers … at least 1 … got 0"),
    "num_layers float": (lambda: jr.RNN(3, 4, 2.0), TypeError, "num_layers … int … got 2.0"),
    "nonlinearity unknown": (
        lambda: jr.RNN(3, 4, nonlinearity="elu"),
        ValueError,
        "nonlinearity … tanh … relu … got 'elu'",
    ),
    "nonlinearity None": (lambda: jr.RNN(3, 4, nonlinearity=None), ValueError, "nonlinearity … tanh … got None"),
    "nonlinearity list": (
        lambda: jr.RNN(3, 4, nonlinearity=["tanh"]),
        (TypeError, ValueError),
        "nonlinearity … tanh … got ['tanh']",
    ),
    "bias int": (lambda: jr.RNN(3, 4, bias=1), TypeError, "bias … bool … got 1 … int"),
    "batch_first str": (lambda: jr.GRU(3, 4, batch_first="yes"), TypeError, "batch_first … bool … got 'yes'"),
    "bidirectional int": (lambda: jr.GRU(3, 4, bidirectional=0), TypeError, "bidirectional … bool … got 0"),
    "dropout above 1": (lambda: jr.GRU(3, 4, 2, dropout=1.5), ValueError, "dropout … [0, 1] … got 1.5"),
    "dropout negative": (lambda: jr.GRU(3, 4, 2, dropout=-0.1), ValueError, "dropout … [0, 1] … got -0.1"),
    "dropout nan": (lambda: jr.GRU(3, 4, 2, dropout=float("nan")), ValueError, "dropout … [0, 1] … got nan"),
    "dropout bool": (lambda: jr.GRU(3, 4, 2, dropout=True), TypeError, "dropout … number … got True … bool"),
    "dropout str": (lambda: jr.GRU(3, 4, 2, dropout="0.5"), TypeError, "dropout … number … got '0.5' … str"),
    "dropout array": (lambda: jr.GRU(3, 4, 2, dropout=np.ones(())), TypeError, "dropout … number … ndarray"),
    "proj_size negative": (lambda: jr.LSTM(3, 4, proj_size=-1), ValueError, "proj_size … at least 0 … got -1"),
    "proj_size hidden_size": (
        lambda: jr.LSTM(3, 4, proj_size=4),
        ValueError,
        "proj_size … smaller than hidden_size=4 … got 4",
    ),
    "proj_size float": (lambda: jr.LSTM(3, 4, proj_size=2.0), TypeError, "proj_size … int … got 2.0"),
    "proj_size bool": (lambda: jr.LSTM(3, 4, proj_size=True), TypeError, "proj_size … int … got True"),
    "proj_size of an RNN": (lambda: jr.RNN(3, 4, proj_size=2), TypeError, "proj_size"),
    "proj_size of a GRU": (lambda: jr.GRU(3, 4, proj_size=2), TypeError, "proj_size"),
    "in_features 0": (lambda: jr.Linear(0, 2), ValueError, "in_features … at least 1 … got 0"),
    "out_features float": (lambda: jr.Linear(3, 2.0), TypeError, "out_features … int … got 2.0"),
    "Linear bias None": (lambda: jr.Linear(3, 2, bias=None), TypeError, "bias … bool … got None"),
    "num_embeddings 0": (lambda: jr.Embedding(0, 2), ValueError, "num_embeddings … at least 1 … got 0"),
    "embedding_dim bool": (lambda: jr.Embedding(4, True), TypeError, "embedding_dim … int … got True"),
    "blocks 0": (lambda: jr.affine_cell(len, blocks=0), ValueError, "blocks … at least 1 … got 0"),
    "gates None": (lambda: jr.affine_cell(None, blocks=1), TypeError, "gates … function … got NoneType"),
    "blocks float": (lambda: jr.affine_cell(len, blocks=2.0), TypeError, "blocks … int … got 2.0"),
    "stack of nothing": (lambda: jr.stack(), ValueError, "at least one cell … got none"),
    "stack of a function": (lambda: jr.stack(jr.rnn, len), TypeError, "cells[1] … Cell … got builtin_function"),
    "stack of a list": (lambda: jr.stack([jr.rnn, jr.rnn]), TypeError, "cells[0] … Cell … got list"),
}

INIT = {
    "input_size 0": (lambda: jr.rnn.init(KEY, 0, 4), ValueError, "input_size … at least 1 … got 0"),
    "input_size float": (lambda: jr.gru.init(KEY, 3.0, 4), TypeError, "input_size … int … got 3.0"),
    "hidden_size 0": (lambda: jr.lstm.init(KEY, 3, 0), ValueError, "hidden_size … at least 1 … got 0"),
    "hidden_size bool": (lambda: jr.gru.init(KEY, 3, True), TypeError, "hidden_size … int … got True"),
    "bias None": (lambda: jr.gru.init(KEY, 3, 4, bias=None), TypeError, "bias … bool … got None"),
    "dtype int": (lambda: jr.gru.init(KEY, 3, 4, dtype=jnp.int32), TypeError, "dtype … floating … got int32"),
    "dtype complex": (lambda: jr.rnn.init(KEY, 3, 4, dtype=jnp.complex64), TypeError, "dtype … got complex64"),
    "proj_size negative": (
        lambda: jr.lstm.init(KEY, 3, 4, proj_size=-1),
        ValueError,
        "proj_size … at least 0 … got -1",
    ),
    "proj_size hidden_size": (lambda: jr.lstm.init(KEY, 3, 4, proj_size=4), ValueError, "proj_size … 4 … got 4"),
    "proj_size float": (lambda: jr.lstm.init(KEY, 3, 4, proj_size=2.0), TypeError, "proj_size … int … got 2.0"),
    "proj_size of a GRU": (lambda: jr.gru.init(KEY, 3, 4, proj_size=2), TypeError, "proj_size"),
    "stack one width": (lambda: STACK.init(KEY, 3, 4), TypeError, "hidden_size … tuple … 2 … got 4"),
    "stack list of widths": (lambda: STACK.init(KEY, 3, [4, 5]), TypeError, "hidden_size … tuple … got [4, 5]"),
    "stack three widths": (lambda: STACK.init(KEY, 3, (4, 5, 6)), ValueError, "hidden_size … 2 entries … got 3"),
    "stack width 0": (lambda: STACK.init(KEY, 3, (4, 0)), ValueError, "hidden_size … at least 1 … got 0"),
    "network dtype": (lambda: NET.init(KEY, jnp.int32), TypeError, "dtype … floating … got int32"),
    "Linear dtype": (lambda: LINEAR.init(KEY, jnp.int32), TypeError, "dtype … floating … got int32"),
    "Embedding dtype": (lambda: EMBEDDING.init(KEY, jnp.bool_), TypeError, "dtype … floating … got bool"),
    "batch_shape int": (lambda: jr.gru.initial_state(GRU, 3), TypeError, "batch_shape … tuple … got 3"),
    "batch_shape negative": (lambda: jr.gru.initial_state(GRU, (-3,)), ValueError, "batch_shape … -3"),
    "initial_state params None": (lambda: jr.gru.initial_state(None), TypeError, "params … weight_ih … got None"),
}


def step(cell, params, state, x):
    return lambda: cell.step(params, state, x)


def gru_step(state, x):
    return step(jr.gru, GRU, state, x)


def lstm_step(state, params=LSTM):
    return step(jr.lstm, params, state, X[0, 0])


STEP = {
    "x list": (gru_step(zeros(4), [1.0, 2.0, 3.0]), TypeError, "x … array … got list"),
    "x None": (gru_step(zeros(4), None), TypeError, "x … array … got NoneType"),
    "x float": (gru_step(zeros(4), 1.0), TypeError, "x … array … got float"),
    "x without axes": (gru_step(zeros(4), np.float32(1)), ValueError, "x has shape () … (*batch, 3)"),
    "x of 4 features": (gru_step(zeros(4), zeros(4)), ValueError, "x has shape (4,) … (*batch, 3) … input_size"),
    "x of no features": (gru_step(zeros(4), zeros(0)), ValueError, "x has shape (0,) … (*batch, 3)"),
    "x of integers": (gru_step(zeros(4), np.ones(3, int)), ValueError, "x has dtype int32 … float32 … mixed dtypes"),
    "x of half": (gru_step(zeros(4), np.ones(3, HALF)), ValueError, "x has dtype float16 … float32 … mixed dtypes"),
    "state None": (gru_step(None, X[0]), ValueError, "state is None … float32[2,4]"),
    "state list": (gru_step([0.0] * 4, X[0, 0]), (TypeError, ValueError), "state is [ … expected float32[4]"),
    "state float": (gru_step(0.0, X[0, 0]), TypeError, "state must be an array, got float"),
    "state not batched": (gru_step(zeros(4), X[0]), ValueError, "state has shape (4,) … (2, 4) … x of shape (2, 3)"),
    "state batched": (gru_step(zeros(2, 4), X[0, 0]), ValueError, "state has shape (2, 4) … (4,)"),
    "state of a batch of 1": (gru_step(zeros(1, 4), X[0]), ValueError, "state has shape (1, 4) … (2, 4)"),
    "state of 5 units": (gru_step(zeros(5), X[0, 0]), ValueError, "state has shape (5,) … (4,)"),
    "state of half": (gru_step(zeros(4, dtype=HALF), X[0, 0]), ValueError, "state has dtype float16 … float32 … mixed"),
    "state tuple for a GRU": (gru_step((zeros(4),), X[0, 0]), ValueError, "state is ( … expected float32[4]"),
    "state array for an LSTM": (lstm_step(zeros(4)), ValueError, "state is float32[4], expected LSTMState(h= … c="),
    "state of one array": (lstm_step((zeros(4),)), ValueError, "state is ( … expected LSTMState"),
    "state of three arrays": (lstm_step((zeros(4),) * 3), ValueError, "state is ( … expected LSTMState"),
    "state without c": (lstm_step(jr.LSTMState(zeros(4), None)), ValueError, "state is LSTMState( … c=None … expected"),
    "h of 5 units": (lstm_step(jr.LSTMState(zeros(5), zeros(4))), ValueError, "state.h has shape (5,) … (4,)"),
    "c of 5 units": (lstm_step(jr.LSTMState(zeros(4), zeros(5))), ValueError, "state.c has shape (5,) … (4,)"),
    "c of half": (
        lstm_step(jr.LSTMState(zeros(4), zeros(4, dtype=HALF))),
        ValueError,
        "state.c has dtype float16 … mixed",
    ),
    "h and c swapped": (
        lstm_step(jr.LSTMState(zeros(4), zeros(2)), PROJECTED),
        ValueError,
        "state.h has shape (4,), expected (2,)",
    ),
    "params None": (step(jr.gru, None, zeros(4), X[0, 0]), TypeError, "params … weight_ih … got None"),
    "params dict": (step(jr.gru, GRU._asdict(), zeros(4), X[0, 0]), TypeError, "params … weight_ih … got {"),
    "params of an LSTM": (
        step(jr.gru, LSTM, zeros(4), X[0, 0]),
        ValueError,
        "weight_ih has shape (16, 3) … (3*hidden_size",
    ),
    "params of a GRU": (step(jr.rnn, GRU, zeros(4), X[0, 0]), ValueError, "weight_hh has shape (12, 4) … (12, 12)"),
    "weight_ih list": (
        step(jr.rnn, RNN._replace(weight_ih=[1.0]), zeros(4), X[0, 0]),
        TypeError,
        "weight_ih … array … list",
    ),
    "weight_ih None": (step(jr.rnn, RNN._replace(weight_ih=None), zeros(4), X[0, 0]), TypeError, "weight_ih … array"),
    "weight_ih vector": (
        step(jr.rnn, RNN._replace(weight_ih=zeros(4)), zeros(4), X[0, 0]),
        ValueError,
        "weight_ih … (4,)",
    ),
    "weight_hh None": (step(jr.rnn, RNN._replace(weight_hh=None), zeros(4), X[0, 0]), TypeError, "weight_hh … array"),
    "weight_hh wide": (
        step(jr.rnn, RNN._replace(weight_hh=zeros(4, 5)), zeros(4), X[0, 0]),
        ValueError,
        "weight_hh has shape (4, 5), expected (4, 4)",
    ),
    "weight_hh half": (
        step(jr.rnn, RNN._replace(weight_hh=zeros(4, 4, dtype=HALF)), zeros(4), X[0, 0]),
        ValueError,
        "weight_hh has dtype float16, expected float32 … mixed",
    ),
    "bias_ih matrix": (
        step(jr.rnn, RNN._replace(bias_ih=zeros(1, 4)), zeros(4), X[0, 0]),
        ValueError,
        "bias_ih … (1, 4) … (4,)",
    ),
    "bias_hh short": (
        step(jr.rnn, RNN._replace(bias_hh=zeros(3)), zeros(4), X[0, 0]),
        ValueError,
        "bias_hh … (3,) … (4,)",
    ),
    "weight_hh without axes": (
        lstm_step(jr.lstm.initial_state(PROJECTED), PROJECTED._replace(weight_hh=np.float32(1))),
        ValueError,
        "weight_hh has shape (), expected (16",
    ),
    "weight_hr transposed": (
        lstm_step(jr.lstm.initial_state(PROJECTED), PROJECTED._replace(weight_hr=zeros(4, 2))),
        ValueError,
        "weight_hr has shape (4, 2), expected",
    ),
    "weight_hr without axes": (
        lstm_step(jr.lstm.initial_state(PROJECTED), PROJECTED._replace(weight_hr=np.float32(1))),
        ValueError,
        "weight_hr has shape (), expected",
    ),
    "weight_hr list": (
        lstm_step(jr.lstm.initial_state(PROJECTED), PROJECTED._replace(weight_hr=[1.0])),
        TypeError,
        "weight_hr … array … got list",
    ),
    "integer params": (
        step(jr.rnn, with_dtype(RNN, np.int32), zeros(4, dtype=np.int32), np.ones(3, np.int32)),
        TypeError,
        "weight_ih … floating … got int32",
    ),
    "stack params list": (step(STACK, list(STACKED), (), X[0, 0]), TypeError, "params … tuple … 2 … got"),
    "stack params short": (step(STACK, STACKED[:1], (), X[0, 0]), ValueError, "params … 2 entries … got 1"),
    "stack state None": (step(STACK, STACKED, None, X[0, 0]), TypeError, "state … tuple … 2 … got None"),
    "stack state short": (step(STACK, STACKED, (zeros(4),), X[0, 0]), ValueError, "state … 2 entries … got 1"),
    "stack x": (
        step(STACK, STACKED, STACK.initial_state(STACKED), zeros(4)),
        ValueError,
        "x has shape (4,) … (*batch, 3)",
    ),
}


def unroll(xs=X, state=None, cell=jr.gru, params=GRU, **options):
    return lambda: jr.unroll(cell, params, xs, state, **options)


def custom(step):
    """A cell with one unit whose step is this function."""
    return unroll(cell=jr.Cell(None, lambda params, batch_shape=(): jnp.zeros((*batch_shape, 1)), step, lambda h: h))


UNROLL = {
    "cell None": (unroll(cell=None), TypeError, "cell … Cell … got NoneType"),
    "cell function": (unroll(cell=jr.gru.step), TypeError, "cell … Cell … got"),
    "cell class": (unroll(cell=jr.GRU), TypeError, "cell … Cell … got type"),
    "params None": (unroll(params=None), TypeError, "params … weight_ih … got None"),
    "params of the other cell": (unroll(params=LSTM), ValueError, "weight_ih … (16, 3)"),
    "xs list": (unroll([[1.0, 2.0, 3.0]]), TypeError, "xs … array … got list"),
    "xs None": (unroll(None), TypeError, "xs … array … got NoneType"),
    "xs without time": (unroll(X[0, 0]), ValueError, "xs has shape (3,) … (T, *batch, features)"),
    "xs without axes": (unroll(np.float32(1)), ValueError, "xs has shape () … (T, *batch, features)"),
    "xs with T=0": (unroll(X[:0]), ValueError, "xs has shape (0, 2, 3) … T >= 1"),
    "xs of 2 features": (unroll(X[..., :2]), ValueError, "x … (2, 2) … 3"),
    "xs of integers": (unroll(X.astype(int)), ValueError, "x … int32 … float32 … mixed dtypes"),
    "xs of half": (unroll(X.astype(HALF)), ValueError, "x … float16 … float32 … mixed dtypes"),
    "state not batched": (unroll(X, zeros(4)), ValueError, "state has shape (4,) … (2, 4) … (6, 2, 3)"),
    "state of a batch of 1": (unroll(X, zeros(1, 4)), ValueError, "state has shape (1, 4) … (2, 4)"),
    "state of a batch of 3": (unroll(X, zeros(3, 4)), ValueError, "state has shape (3, 4) … (2, 4)"),
    "state of 5 units": (unroll(X, zeros(2, 5)), ValueError, "state has shape (2, 5) … (2, 4)"),
    "state of half": (
        unroll(X, zeros(2, 4, dtype=HALF)),
        ValueError,
        "state has dtype float16 … float32 … mixed dtypes",
    ),
    "state tuple": (unroll(X, (zeros(2, 4),)), ValueError, "state is ( … expected float32[2,4]"),
    "state array for an LSTM": (
        unroll(X, zeros(2, 4), jr.lstm, LSTM),
        ValueError,
        "state is float32[2,4], expected LSTMState(",
    ),
    "state of one cell for a stack": (
        unroll(X, (zeros(2, 4),), STACK, STACKED),
        ValueError,
        "state is ( … expected ( … LSTMState(",
    ),
    "lengths above T": (unroll(lengths=[7, 1]), ValueError, "lengths … [0, 6] … got 7"),
    "lengths negative": (unroll(lengths=np.array([1, -1])), ValueError, "lengths … [0, 6] … got -1"),
    "lengths far above T": (unroll(lengths=[2**40, 1]), ValueError, f"lengths … [0, 6] … got {2**40}"),
    "lengths above T in uint64": (
        unroll(lengths=np.array([2**63, 1], np.uint64)),
        ValueError,
        "lengths … [0, 6] … got 9",
    ),
    "lengths too many": (unroll(lengths=[1, 2, 3]), ValueError, "lengths has shape (3,) … (2,)"),
    "lengths one for all": (unroll(lengths=3), ValueError, "lengths has shape () … (2,)"),
    "lengths in a column": (unroll(lengths=[[1], [2]]), ValueError, "lengths has shape (2, 1) … (2,)"),
    "lengths of one sequence in a list": (unroll(X[:, 0], lengths=[3]), ValueError, "lengths has shape (1,) … ()"),
    "lengths floats": (unroll(lengths=[1.0, 2.0]), TypeError, "lengths … integers … got … float"),
    "lengths bools": (unroll(lengths=[True, False]), TypeError, "lengths … integers … got … bool"),
    "lengths str": (unroll(lengths="12"), TypeError, "lengths … integers … got"),
    "reverse int": (unroll(reverse=1), TypeError, "reverse … bool … got 1"),
    "return_states None": (unroll(return_states=None), TypeError, "return_states … bool … got None"),
    "checkpoint 0": (unroll(checkpoint=0), ValueError, "checkpoint … at least 1 … got 0"),
    "checkpoint negative": (unroll(checkpoint=-2), ValueError, "checkpoint … at least 1 … got -2"),
    "checkpoint float": (unroll(checkpoint=2.0), TypeError, "checkpoint … int … got 2.0"),
    "checkpoint bool": (unroll(checkpoint=True), TypeError, "checkpoint … int … got True"),
    "checkpoint unknown": (unroll(checkpoint="cbrt"), ValueError, "checkpoint … sqrt … got 'cbrt'"),
    "step of another shape": (
        custom(lambda params, h, x: x),
        ValueError,
        "state that cell.step returns has shape (2, 3), expected (2, 1)",
    ),
    "step of another dtype": (
        custom(lambda params, h, x: h.astype(HALF)),
        ValueError,
        "state that cell.step returns has dtype float16, expected float32",
    ),
    "step of another structure": (
        custom(lambda params, h, x: (h, h)),
        ValueError,
        "state that cell.step returns is ( … expected float32[2,1]",
    ),
}


def net(x=X, h_0=None, of=NET, params=W, **options):
    return lambda: of.apply(params, x, h_0, **options)


def deep(h_0, x=X):
    return net(x, h_0, DEEP, W_DEEP)


def renamed(name, value):
    return net(params=W | {name: value})


NETWORK = {
    "x list": (net([[1.0, 2.0, 3.0]]), TypeError, "x … array … got list"),
    "x None": (net(None), TypeError, "x … array … got NoneType"),
    "x of 1 axis": (net(X[0, 0]), ValueError, "x has shape (3,) … (T, N, input_size=3) or (T, input_size=3)"),
    "x of 4 axes": (net(X[None]), ValueError, "x has shape (1, 6, 2, 3) … (T, N, input_size=3) or (T, input_size=3)"),
    "x of 2 features": (net(X[..., :2]), ValueError, "x has shape (6, 2, 2) … input_size=3"),
    "x of 2 features, batch first": (
        net(X[..., :2], of=BATCH_FIRST),
        ValueError,
        "x … (6, 2, 2) … (N, T, input_size=3)",
    ),
    "x with T=0": (net(X[:0]), ValueError, "x has shape (0, 2, 3) … T >= 1"),
    "x with T=0, batch first": (net(X[:, :0], of=BATCH_FIRST), ValueError, "x has shape (6, 0, 3) … T >= 1"),
    "x with T=0, one sequence": (net(X[:0, 0]), ValueError, "x has shape (0, 3) … T >= 1"),
    "x of half": (net(X.astype(HALF)), ValueError, "x has dtype float16 … float32 … mixed dtypes"),
    "x of integers": (net(X.astype(int)), ValueError, "x has dtype int32 … float32 … mixed dtypes"),
    "h_0 of 2 axes, batch": (net(X, zeros(1, 4)), ValueError, "h_0 has shape (1, 4), expected (1, 2, 4)"),
    "h_0 of 3 axes, one sequence": (
        net(X[:, 0], zeros(1, 1, 4)),
        ValueError,
        "h_0 has shape (1, 1, 4), expected (1, 4)",
    ),
    "h_0 of 2 layers": (net(X, zeros(2, 2, 4)), ValueError, "h_0 has shape (2, 2, 4), expected (1, 2, 4)"),
    "h_0 of a batch of 3": (net(X, zeros(1, 3, 4)), ValueError, "h_0 has shape (1, 3, 4), expected (1, 2, 4)"),
    "h_0 of a batch of 1": (net(X, zeros(1, 1, 4)), ValueError, "h_0 has shape (1, 1, 4), expected (1, 2, 4)"),
    "h_0 batch first": (
        net(X, zeros(6, 1, 4), BATCH_FIRST),
        ValueError,
        "h_0 has shape (6, 1, 4), expected (1, 6, 4)",
    ),
    "h_0 of 5 units": (net(X, zeros(1, 2, 5)), ValueError, "h_0 has shape (1, 2, 5), expected (1, 2, 4)"),
    "h_0 of half": (net(X, zeros(1, 2, 4, dtype=HALF)), ValueError, "h_0 has dtype float16, expected float32 … mixed"),
    "h_0 tuple for a GRU": (net(X, (zeros(1, 2, 4),)), TypeError, "h_0 must be an array, got tuple"),
    "h_0 list": (net(X, [[[0.0] * 4] * 2]), TypeError, "h_0 must be an array, got list"),
    "h_0 float": (net(X, 0.0), (TypeError, ValueError), "h_0 … (1, 2, 4)"),
    "h_0 str": (net(X, "zeros"), TypeError, "h_0"),
    "h_0 array for an LSTM": (deep(zeros(4, 2, 2)), TypeError, "h_0 must be a tuple (h_0, c_0), got float32[4,2,2]"),
    "h_0 of one": (deep((zeros(4, 2, 2),)), ValueError, "h_0 must be a tuple (h_0, c_0), got 1"),
    "h_0 of three": (deep((zeros(4, 2, 2),) * 3), ValueError, "h_0 must be a tuple (h_0, c_0), got 3"),
    "h_0 without c_0": (deep((zeros(4, 2, 2), None)), TypeError, "c_0 must be an array, got NoneType"),
    "h_0 and c_0 swapped": (
        deep((zeros(4, 2, 4), zeros(4, 2, 2))),
        ValueError,
        "h_0 has shape (4, 2, 4), expected (4, 2, 2)",
    ),
    "c_0 of a batch of 3": (
        deep((zeros(4, 2, 2), zeros(4, 3, 4))),
        ValueError,
        "c_0 has shape (4, 3, 4), expected (4, 2, 4)",
    ),
    "c_0 of one direction": (
        deep((zeros(4, 2, 2), zeros(2, 2, 4))),
        ValueError,
        "c_0 has shape (2, 2, 4), expected (4, 2, 4)",
    ),
    "c_0 of 3 axes, one sequence": (
        deep((zeros(4, 2), zeros(4, 1, 4)), X[:, 0]),
        ValueError,
        "c_0 has shape (4, 1, 4), expected (4, 4)",
    ),
    "c_0 of half": (
        deep((zeros(4, 2, 2), zeros(4, 2, 4, dtype=HALF))),
        ValueError,
        "c_0 has dtype float16, expected float32 … mixed",
    ),
    "params None": (net(params=None), TypeError, "params … dict … got NoneType"),
    "params list": (net(params=list(W.values())), TypeError, "params … dict … got list"),
    "params empty": (net(params={}), ValueError, "params … weight_ih_l0"),
    "params of 2 layers": (net(of=jr.GRU(3, 4, 2)), ValueError, "params … weight_ih_l1"),
    "params without bias": (
        net(params={n: a for n, a in W.items() if "bias" not in n}),
        ValueError,
        "params … bias_ih_l0",
    ),
    "params with bias": (net(of=jr.GRU(3, 4, bias=False)), ValueError, "params … unexpected … bias_hh_l0"),
    "params with another name": (renamed("weight_l0", zeros(1)), ValueError, "params … unexpected … weight_l0"),
    "weight of 5 columns": (
        renamed("weight_hh_l0", zeros(12, 5)),
        ValueError,
        "weight_hh_l0 has shape (12, 5), expected (12, 4)",
    ),
    "weight transposed": (
        renamed("weight_ih_l0", zeros(3, 12)),
        ValueError,
        "weight_ih_l0 has shape (3, 12), expected (12, 3)",
    ),
    "weight list": (renamed("weight_hh_l0", [[1.0]]), TypeError, "weight_hh_l0 … array … got list"),
    "first weight list": (renamed("weight_ih_l0", [[1.0]]), TypeError, "weight_ih_l0 … array … got list"),
    "first weight None": (renamed("weight_ih_l0", None), TypeError, "weight_ih_l0 … array … got NoneType"),
    "bias None": (renamed("bias_ih_l0", None), TypeError, "bias_ih_l0 … array … got NoneType"),
    "weight of half": (
        renamed("weight_hh_l0", zeros(12, 4, dtype=HALF)),
        ValueError,
        "weight_hh_l0 has dtype float16, expected float32 … mixed",
    ),
    "integer params": (
        net(X.astype(np.int32), params=with_dtype(W, np.int32)),
        TypeError,
        "weight_ih_l0 … floating … got int32",
    ),
    "lengths above T": (net(lengths=[7, 1]), ValueError, "lengths … [0, 6] … got 7"),
    "lengths negative": (net(lengths=[-1, 1]), ValueError, "lengths … [0, 6] … got -1"),
    "lengths too many": (net(lengths=[1, 2, 3]), ValueError, "lengths has shape (3,) … (2,)"),
    "lengths, batch first": (net(of=BATCH_FIRST, lengths=[1, 2]), ValueError, "lengths has shape (2,) … (6,)"),
    "lengths above T, batch first": (net(of=BATCH_FIRST, lengths=[3] * 6), ValueError, "lengths … [0, 2] … got 3"),
    "lengths of one sequence in a list": (net(X[:, 0], lengths=[3]), ValueError, "lengths has shape (1,) … ()"),
    "lengths floats": (net(lengths=[1.0, 2.0]), TypeError, "lengths … integers … got … float"),
    "lengths bools": (net(lengths=[True, True]), TypeError, "lengths … integers … got … bool"),
    "checkpoint 0": (net(checkpoint=0), ValueError, "checkpoint … at least 1 … got 0"),
    "checkpoint float": (net(checkpoint=2.0), TypeError, "checkpoint … int … got 2.0"),
    "checkpoint unknown": (net(checkpoint="cbrt"), ValueError, "checkpoint … sqrt … got 'cbrt'"),
}


def linear(x=X, params=W_LINEAR, of=LINEAR):
    return lambda: of.apply(params, x)


def embedding(ids, params=W_EMBEDDING):
    return lambda: EMBEDDING.apply(params, ids)


LAYERS = {
    "x list": (linear([1.0, 2.0, 3.0]), TypeError, "x … array … got list"),
    "x without axes": (linear(np.float32(1)), ValueError, "x has shape () … (*batch, 3) … in_features"),
    "x of 2 features": (linear(X[..., :2]), ValueError, "x has shape (6, 2, 2) … (*batch, 3) … in_features"),
    "x of half": (linear(X.astype(HALF)), ValueError, "x has dtype float16 … float32 … mixed dtypes"),
    "x of integers": (linear(X.astype(int)), ValueError, "x has dtype int32 … float32 … mixed dtypes"),
    "params None": (linear(params=None), TypeError, "params … dict … got NoneType"),
    "params without bias": (linear(params={"weight": zeros(2, 3)}), ValueError, "params … bias"),
    "params with bias": (linear(of=jr.Linear(3, 2, bias=False)), ValueError, "params … unexpected … bias"),
    "weight transposed": (linear(params=W_LINEAR | {"weight": zeros(3, 2)}), ValueError, "weight … (3, 2) … (2, 3)"),
    "weight list": (linear(params=W_LINEAR | {"weight": [1.0]}), TypeError, "weight … array … got list"),
    "weight None": (linear(params=W_LINEAR | {"weight": None}), TypeError, "weight … array … got NoneType"),
    "integer params": (
        linear(X.astype(np.int32), with_dtype(W_LINEAR, np.int32)),
        TypeError,
        "weight … floating … got int32",
    ),
    "bias column": (linear(params=W_LINEAR | {"bias": zeros(2, 1)}), ValueError, "bias … (2, 1) … (2,)"),
    "bias of half": (linear(params=W_LINEAR | {"bias": zeros(2, dtype=HALF)}), ValueError, "bias … float16 … float32"),
    "bias None": (linear(params=W_LINEAR | {"bias": None}), TypeError, "bias … array … got NoneType"),
    "ids list": (embedding([1, 2]), TypeError, "ids … array … got list"),
    "ids floats": (embedding(np.ones(2)), TypeError, "ids … integers … got … float64"),
    "ids bools": (embedding(np.ones(2, bool)), TypeError, "ids … integers … got … bool"),
    "ids above": (embedding(np.array([[1, 4]])), ValueError, "ids … [0, 4) … got 4"),
    "ids negative": (embedding(np.array([0, -1])), ValueError, "ids … [0, 4) … got -1"),
    "ids above what 32 bits hold": (embedding(np.array([2**32])), ValueError, f"ids … [0, 4) … got {2**32}"),
    "table transposed": (embedding(np.array([1]), {"weight": zeros(3, 4)}), ValueError, "weight … (3, 4) … (4, 3)"),
    "table None": (embedding(np.array([1]), {"weight": None}), TypeError, "weight … array … got NoneType"),
    "table by another name": (embedding(np.array([1]), {"w": zeros(4, 3)}), ValueError, "params … weight"),
    "table alone": (embedding(np.array([1]), zeros(4, 3)), TypeError, "params … dict … got ndarray"),
    "integer table": (
        embedding(np.array([1]), {"weight": zeros(4, 3, dtype=np.int32)}),
        TypeError,
        "weight … floating … got int32",
    ),
}


def advance(params, h, x):
    return h + x


def repeat(params, h, key):
    return h, h


def generate(step=advance, feed=repeat, length=3):
    return lambda: jr.generate(step, feed, None, np.float32(0), np.float32(1), length)


GENERATE = {
    "step None": (generate(step=None), TypeError, "step … Cell … got NoneType"),
    "step a network": (generate(step=NET), TypeError, "step … Cell … got GRU"),
    "feed None": (generate(feed=None), TypeError, "feed … function … got NoneType"),
    "length 0": (generate(length=0), ValueError, "length … at least 1 … got 0"),
    "length negative": (generate(length=-1), ValueError, "length … at least 1 … got -1"),
    "length float": (generate(length=3.0), TypeError, "length … int … got 3.0"),
    "length bool": (generate(length=True), TypeError, "length … int … got True"),
    "step of another structure": (
        generate(step=lambda params, h, x: (h, h)),
        ValueError,
        "state that step returns is ( … expected float32[]",
    ),
    "step of another dtype": (
        generate(step=lambda params, h, x: h.astype(HALF)),
        ValueError,
        "state that step returns has dtype float16, expected float32",
    ),
    "feed of another shape": (
        generate(feed=lambda params, h, key: (zeros(2), h)),
        ValueError,
        "x_next that feed returns has shape (2,), expected ()",
    ),
    "feed of another dtype": (
        generate(feed=lambda params, h, key: (h.astype(HALF), h)),
        ValueError,
        "x_next that feed returns has dtype float16, expected float32",
    ),
    "feed of one": (generate(feed=lambda params, h, key: h), (TypeError, ValueError), "feed … (x_next, emitted)"),
    "feed of three": (
        generate(feed=lambda params, h, key: (h, h, h)),
        (TypeError, ValueError),
        "feed … (x_next, emitted)",
    ),
    "x of another shape": (
        lambda: jr.generate(jr.gru, repeat, GRU, zeros(4), zeros(4), 3),
        ValueError,
        "x has shape (4,) … (*batch, 3)",
    ),
}

CALLS = {"step": STEP, "unroll": UNROLL, "network": NETWORK, "layer": LAYERS, "generate": GENERATE}
ONCE = {"constructor": CONSTRUCTORS, "init": INIT}


def table(groups):
    rows = [(f"{group}: {name}", row) for group, rows in groups.items() for name, row in rows.items()]
    return pytest.mark.parametrize(("call", "error", "words"), [row for _, row in rows], ids=[name for name, _ in rows])


def refuses(call, error, words):
    with pytest.raises(error) as caught:
        call()
    assert re.search(".*".join(map(re.escape, words.split(" … "))), str(caught.value), re.DOTALL), caught.value


@table(ONCE | CALLS)
def test_refused(call, error, words):
    refuses(call, error, words)


@table(CALLS)
def test_refused_inside_jit(call, error, words):
    refuses(jax.jit(call), error, words)


TRACED = {
    "x": (lambda x: jr.gru.step(GRU, zeros(4), x), zeros(5), "x has shape (5,) … (*batch, 3)"),
    "state": (lambda h: jr.gru.step(GRU, h, X[0]), zeros(4), "state has shape (4,) … (2, 4)"),
    "xs": (lambda xs: jr.unroll(jr.gru, GRU, xs), X[:0], "xs has shape (0, 2, 3) … T >= 1"),
    "lengths": (lambda n: jr.unroll(jr.gru, GRU, X, lengths=n), np.ones(3, int), "lengths has shape (3,) … (2,)"),
    "h_0": (lambda h_0: NET.apply(W, X, h_0), zeros(1, 4), "h_0 has shape (1, 4) … (1, 2, 4)"),
    "params": (
        lambda params: NET.apply(params, X),
        W | {"weight_hh_l0": zeros(4, 4)},
        "weight_hh_l0 … (4, 4) … (12, 4)",
    ),
    "linear": (lambda x: LINEAR.apply(W_LINEAR, x), zeros(4), "x has shape (4,) … (*batch, 3)"),
}


@pytest.mark.parametrize(("function", "argument", "words"), TRACED.values(), ids=TRACED)
def test_traced_arguments_are_checked(function, argument, words):
    refuses(lambda: jax.jit(function)(argument), ValueError, words)
    refuses(lambda: jax.vmap(function)(jax.tree.map(lambda a: a[None], argument)), ValueError, words)


@pytest.mark.parametrize("dtype", ["float32", "bool"])
def test_traced_values_of_the_wrong_dtype(dtype):
    refuses(lambda: jax.jit(unroll_lengths)(np.ones(2, dtype)), TypeError, f"lengths … integers … {dtype}")
    refuses(lambda: jax.jit(lambda ids: embedding(ids)())(np.ones(2, dtype)), TypeError, f"ids … integers … {dtype}")


def unroll_lengths(lengths):
    return jr.unroll(jr.gru, GRU, X, lengths=lengths)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(
    ("call", "name"),
    [(gru_step(zeros(4), np.ones(3)), "x"), (unroll(X.astype(float)), "x"), (net(X.astype(float)), "x")],
    ids=["step", "unroll", "network"],
)
def test_float64_is_not_float32_under_x64(call, name):
    refuses(call, ValueError, f"{name} … float64 … float32 … mixed dtypes")


EMPTY = X[:, :0]
KEYED = jr.GRU(3, 4, 2, dropout=0.5)
OLD_KEY = jax.random.PRNGKey(0)
LENGTHS = np.array([6, 2])
ACCEPTED = {
    "lengths list": (unroll(lengths=[6, 2]), unroll(lengths=LENGTHS)),
    "lengths tuple": (unroll(lengths=(6, 2)), unroll(lengths=LENGTHS)),
    "lengths int of one sequence": (unroll(X[:, 0], lengths=2), unroll(X[:, 0], lengths=np.array(2))),
    "lengths list of nothing": (unroll(EMPTY, lengths=[]), unroll(EMPTY)),
    "network lengths list": (net(lengths=[6, 2]), net(lengths=LENGTHS)),
    "network lengths, batch first": (
        net(of=BATCH_FIRST, lengths=[1] * 6),
        net(of=BATCH_FIRST, lengths=np.ones(6, int)),
    ),
    "checkpoint with a batch of 0": (unroll(EMPTY, checkpoint=4), unroll(EMPTY)),
    "network checkpoint with a batch of 0": (net(EMPTY, checkpoint="sqrt"), net(EMPTY)),
    "checkpoint NumPy int": (unroll(checkpoint=np.int64(2)), unroll(checkpoint=2)),
    "float64 x without x64": (unroll(X.astype(float)), unroll(X)),
    "float64 params without x64": (unroll(params=with_dtype(GRU, float)), unroll(X)),
    "float64 params of a step without x64": (
        step(jr.gru, with_dtype(GRU, float), zeros(4), X[0, 0]),
        step(jr.gru, GRU, zeros(4), X[0, 0]),
    ),
    "float64 state of a step without x64": (gru_step(np.zeros(4), X[0, 0]), gru_step(zeros(4), X[0, 0])),
    "float64 params of a network without x64": (net(params=with_dtype(W, float)), net()),
    "float64 params of a Linear without x64": (linear(params=with_dtype(W_LINEAR, float)), linear()),
    "float64 table without x64": (
        embedding(np.array([1]), with_dtype(W_EMBEDDING, float)),
        embedding(np.array([1])),
    ),
    "LSTMState for an LSTM": (
        deep(jr.LSTMState(zeros(4, 2, 2), zeros(4, 2, 4))),
        deep((zeros(4, 2, 2), zeros(4, 2, 4))),
    ),
    "OrderedDict of params": (net(params=collections.OrderedDict(W)), net()),
    "NumPy ints as sizes": (net(of=jr.GRU(np.int64(3), np.int32(4))), net()),
    "dropout without a key": (net(of=KEYED, params=like(KEYED.init)), net(of=jr.GRU(3, 4, 2), params=like(KEYED.init))),
    "key without dropout": (net(key=KEY), net()),
    "old key": (lambda: jr.rnn.init(OLD_KEY, 3, 4), lambda: jr.rnn.init(KEY, 3, 4)),
    "batch_shape list": (lambda: jr.rnn.initial_state(RNN, [2]), lambda: jr.rnn.initial_state(RNN, (2,))),
    "NumPy scalar id": (embedding(np.int64(1)), embedding(np.array(1))),
    "NumPy int length": (generate(length=np.int64(3)), generate(length=3)),
}


@pytest.mark.parametrize(("odd", "plain"), ACCEPTED.values(), ids=ACCEPTED)
def test_accepted(odd, plain):
    odd, plain = odd(), plain()
    assert jax.tree.structure(odd) == jax.tree.structure(plain)
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(a, b, strict=True), odd, plain)
