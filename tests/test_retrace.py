"""A second call of the same shapes traces and compiles nothing, eager calls included."""

import contextlib

import jax
import jax.numpy as jnp
import pytest

import jaxrnn as jr

from .cell_table import CELLS, FEATURES, NAMES, make
from .marks import slow_but

EVENTS = []
jax.monitoring.register_event_duration_secs_listener(lambda event, *_, **__: EVENTS.append(event))


@contextlib.contextmanager
def tracing():
    """The traces and compilations inside, afterwards."""
    EVENTS.clear()
    found = []
    yield found
    found.extend(event for event in EVENTS if "trace_duration" in event or "backend_compile" in event)


def generate_step(params, h, x):
    return jr.gru.step(params, h, x)


def generate_feed(params, h, key):
    return h, h


def unroll_call(name, **options):
    cell, params = make(name)
    state = cell.initial_state(params, (2,))
    return lambda x: jr.unroll(cell, params, x, state, **options)


def network_call(net, **options):
    params = net.init(jax.random.key(0))
    return lambda x: type(net)(**vars(net)).apply(params, x, **options)  # an equal network made anew


def generate_call():
    params = jr.gru.init(jax.random.key(0), FEATURES, FEATURES)
    return lambda x: jr.generate(generate_step, generate_feed, params, x[0], x[0], 3, key=jax.random.key(1))


def static_call():
    _, params = make("stack")
    run = jax.jit(lambda cell, net, params, x: jr.unroll(cell, params, x)[1], static_argnums=(0, 1))
    return lambda x: run(jr.stack(jr.lstm, jr.gru), jr.RNN(3, 4), params, x)


CALLS = {
    **{name: (lambda name=name: unroll_call(name)) for name in CELLS},
    "lengths": lambda: unroll_call("lstm", lengths=[1, 3]),
    "reverse": lambda: unroll_call("lstm", reverse=True, return_states=True),
    "checkpoint": lambda: unroll_call("lstm", checkpoint="sqrt"),
    "rnn network": lambda: network_call(jr.RNN(3, 4, num_layers=2, bidirectional=True), lengths=[3, 1]),
    "gru network": lambda: network_call(jr.GRU(3, 4, num_layers=2, dropout=0.5), key=jax.random.key(1)),
    "lstm network": lambda: network_call(jr.LSTM(3, 4, proj_size=2), checkpoint=2),
    "generate": generate_call,
    "static arguments": static_call,
}


FEW = ("gru", "lstm_proj", "nested", "no_places", "stack_of_stacks")


@pytest.mark.parametrize("name", slow_but(CALLS.keys() - (CELLS.keys() - {*FEW}), CALLS))
def test_the_second_call_traces_nothing(name):
    call = CALLS[name]()
    first, second, longer = jnp.zeros((4, 2, FEATURES)), jnp.ones((4, 2, FEATURES)), jnp.ones((5, 2, FEATURES))
    jax.block_until_ready(call(first))
    with tracing() as found:
        jax.block_until_ready(call(second))
    assert not found
    with tracing() as found:
        jax.block_until_ready(call(longer))
    assert found


@pytest.mark.parametrize("name", NAMES)
def test_an_eager_step_traces_nothing(name):
    cell, params = make(name)
    x = jnp.ones((2, FEATURES))
    state = cell.step(params, cell.initial_state(params, (2,)), x)
    state = cell.step(params, state, x)
    with tracing() as found:
        jax.block_until_ready(cell.step(params, state, x))
    assert not found


def test_the_step_function_itself_runs_once_for_any_number_of_steps():
    calls = []

    def step(params, h, x):
        calls.append(x)
        return jnp.tanh(h + x)

    counted = jr.Cell(lambda *_: None, lambda params, batch_shape=(): jnp.zeros((*batch_shape, 3)), step, lambda h: h)
    for _ in range(3):
        jr.unroll(counted, None, jnp.ones((50, 3)))
    assert len(calls) == 1
