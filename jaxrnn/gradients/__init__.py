"""Recurrent gradients, exact, truncated, unbiased and forward in time: one signature, on any step function.

    problem = Problem(step, loss, select)
    value, grads, state = bptt(problem, params, state, xs, ys)

`bptt` is the exact reference; `tbptt`, `artbp`, `rtrl`, `snap`, `uoro`, `kf_rtrl`, `ok`, `rflo`, `eprop` and `dni` are
called alike. `online` has the learners for endless streams. `compare` measures any of them against the exact gradient,
`flow` shows how that one goes back through the states, `sparsity_pattern` what of a step's Jacobians can be other than
zero, `check_gradient` tests a step function of your own; `hvp` and `ggn_vector_product` are second derivatives along a
vector. A batch is `jax.vmap` over (state, xs, ys), then a sum or mean.
"""

from .._reports.comparison import Comparison as Comparison
from .._reports.flow import Flow as Flow
from . import online as online
from ._algorithms.artbp import artbp as artbp
from ._algorithms.bptt import bptt as bptt
from ._algorithms.dni import dni as dni
from ._algorithms.eprop import eprop as eprop
from ._algorithms.influence.pattern import SparsityPattern as SparsityPattern
from ._algorithms.influence.pattern import sparsity_pattern as sparsity_pattern
from ._algorithms.influence.rtrl import rtrl as rtrl
from ._algorithms.influence.snap import snap as snap
from ._algorithms.kf_rtrl import kf_rtrl as kf_rtrl
from ._algorithms.ok import ok as ok
from ._algorithms.rflo import rflo as rflo
from ._algorithms.tbptt import tbptt as tbptt
from ._algorithms.uoro import uoro as uoro
from ._check import check_gradient as check_gradient
from ._compare import compare as compare
from ._derivatives import LossDerivatives as LossDerivatives
from ._derivatives import StepDerivatives as StepDerivatives
from ._derivatives import loss_derivatives as loss_derivatives
from ._derivatives import reals as reals
from ._derivatives import step_derivatives as step_derivatives
from ._flow import flow as flow
from ._learner import Gradient as Gradient
from ._learner import Learner as Learner
from ._learner import sequence_gradient as sequence_gradient
from ._masked import masked as masked
from ._output_loss import OutputLoss as OutputLoss
from ._problem import Problem as Problem
from ._second_order import ggn_vector_product as ggn_vector_product
from ._second_order import hvp as hvp
from ._state_gradients import state_gradients as state_gradients

__all__ = [
    "Comparison",
    "Flow",
    "Gradient",
    "Learner",
    "LossDerivatives",
    "OutputLoss",
    "Problem",
    "SparsityPattern",
    "StepDerivatives",
    "artbp",
    "bptt",
    "check_gradient",
    "compare",
    "dni",
    "eprop",
    "flow",
    "ggn_vector_product",
    "hvp",
    "kf_rtrl",
    "loss_derivatives",
    "masked",
    "ok",
    "online",
    "reals",
    "rflo",
    "rtrl",
    "sequence_gradient",
    "snap",
    "sparsity_pattern",
    "state_gradients",
    "step_derivatives",
    "tbptt",
    "uoro",
]
