"""Recurrent gradients by every general method, one signature, on any step function.

    problem = Problem(step, loss, select)
    value, grads = bptt(problem, params, state, xs, ys)

`bptt` is the exact reference; `tbptt`, `artbp`, `rtrl`, `snap` and `uoro` are called alike. `online` has the learners
for endless streams. A batch is `jax.vmap` over (state, xs, ys), then a sum or mean.
"""

from . import online as online
from ._artbp import artbp as artbp
from ._bptt import bptt as bptt
from ._learner import Learner as Learner
from ._problem import Problem as Problem
from ._sequence import rtrl as rtrl
from ._sequence import snap as snap
from ._sequence import tbptt as tbptt
from ._sequence import uoro as uoro
