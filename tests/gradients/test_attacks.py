"""Every argument of every public function of jaxrnn.gradients against what is no good for it: see tests/attacks.py."""

import jax.numpy as jnp
import numpy as np

import jaxrnn as jr
from jaxrnn import gradients
from jaxrnn.gradients import online

from ..attacks import KEY, TREES, Argument, Attacks, Door
from ..cell_table import make
from .problems import STILL

PARAMS = make("rnn")[1]
STATE, XS, YS = np.zeros(4, np.float32), np.ones((5, 3), np.float32), np.ones((5, 4), np.float32)


def loss(params, h, y):
    return jnp.sum(h**2)


PROBLEM = gradients.Problem(jr.rnn, loss)
SNAP, UORO = online.snap(PROBLEM), online.uoro(PROBLEM)
KF_RTRL, RFLO, DNI = online.kf_rtrl(PROBLEM), online.rflo(PROBLEM), online.dni(PROBLEM)
IN_PARTS = PROBLEM._replace(loss=gradients.OutputLoss(lambda params, h: h, lambda output, y: jnp.sum(output**2)))
FEEDBACK = Argument(np.ones((4, 4), np.float32), called="feedback")
SYNTHESIZER = Argument((lambda w, s: w * s, np.float32(0)), "None", called="synthesizer")
BATCHED = online.batched(SNAP)
INT = Argument(3, "int")
RANDOM, MAYBE = Argument(KEY, "key, old key"), Argument(KEY, "None, key, old key")
OF_PARAMS = Argument(PARAMS, called=r"\b(params|weight|bias)")
GIVEN = {
    "problem": Argument(PROBLEM),
    "params": OF_PARAMS,
    "state": Argument(STATE),
    "xs": Argument(XS, called=r"\bxs?\b"),
    "ys": Argument(YS, "None, list, dict, tuple"),
}
BUDGET = Argument(2**20, "int")


def with_problem(algorithm):
    """The fields of a problem, which is looked at where it is used."""

    def call(step, loss, select):
        return algorithm(gradients.Problem(step, loss, select), PARAMS, STATE, XS, YS)

    return Door(call, {"step": Argument(jr.rnn), "loss": Argument(loss), "select": Argument(lambda params: params)})


def gives(field, good, takes=""):
    """A problem one of whose functions gives something."""

    def call(value):
        problem = PROBLEM._replace(**{field: lambda *arguments: value})
        return gradients.bptt(problem, PARAMS, STATE, XS, YS)

    return Door(call, {"value": Argument(good, takes, called=f"{field}|params|weight")})


def learner(of, state=STATE, x=Argument(XS[0]), key=MAYBE):  # noqa: B008
    return {
        "init": Door(of.init, {"params": OF_PARAMS, "state": Argument(state), "x": x, "key": key}),
        "update": Door(
            of.update,
            {
                "params": OF_PARAMS,
                "carry": Argument(of.init(PARAMS, state, x.good, KEY)),
                "x": x,
                "y": Argument(YS[0], TREES),
            },
        ),
    }


DOORS = {
    "bptt": Door(
        gradients.bptt, GIVEN | {"memory": Argument("revolve", "None"), "snapshots": Argument(2, "None, int")}
    ),
    "tbptt": Door(gradients.tbptt, GIVEN | {"k1": Argument(1), "k2": Argument(2, "int", called="k2")}),
    "artbp": Door(gradients.artbp, GIVEN | {"key": RANDOM, "cut": Argument(0.1)}),
    "rtrl": Door(gradients.rtrl, GIVEN | {"budget": Argument(2**20)}),
    "snap": Door(gradients.snap, GIVEN | {"order": INT, "budget": Argument(2**20)}),
    "uoro": Door(gradients.uoro, GIVEN | {"key": RANDOM, "samples": INT}),
    "kf_rtrl": Door(gradients.kf_rtrl, GIVEN | {"key": RANDOM, "samples": INT}),
    "ok": Door(gradients.ok, GIVEN | {"key": RANDOM, "rank": INT}),
    "rflo": Door(gradients.rflo, GIVEN | {"problem": Argument(IN_PARTS), "feedback": FEEDBACK, "seed": INT}),
    "eprop": Door(gradients.eprop, GIVEN | {"problem": Argument(IN_PARTS), "feedback": FEEDBACK, "seed": INT}),
    "dni": Door(
        gradients.dni,
        GIVEN | {"k": INT, "synthesizer": SYNTHESIZER, "optimizer": Argument(STILL, "None"), "warm": INT},
    ),
    "hvp": Door(gradients.hvp, GIVEN | {"vector": Argument(PARAMS)}),
    "ggn_vector_product": Door(gradients.ggn_vector_product, GIVEN | {"vector": Argument(PARAMS)}),
    "OutputLoss": Door(
        gradients.OutputLoss, {"read": Argument(lambda params, h: h), "loss": Argument(lambda output, y: output)}
    ),
    "sequence_gradient": Door(
        gradients.sequence_gradient,
        {"learner": Argument(SNAP), **{name: GIVEN[name] for name in ("params", "state", "xs", "ys")}, "key": MAYBE},
    ),
    "step_derivatives": Door(
        gradients.step_derivatives,
        {name: GIVEN[name] for name in ("problem", "params", "state")} | {"x": Argument(XS[0])},
    ),
    "loss_derivatives": Door(
        lambda problem, y: gradients.loss_derivatives(problem, PARAMS, STATE, y),
        {"problem": GIVEN["problem"], "y": Argument(YS[0], TREES)},
    ),
    "masked": Door(gradients.masked, {"problem": Argument(PROBLEM)}),
    "state_gradients": Door(gradients.state_gradients, GIVEN),
    "flow": Door(gradients.flow, GIVEN),
    "compare": Door(
        gradients.compare,
        GIVEN | {"algorithms": Argument({"uoro": gradients.uoro}), "key": RANDOM, "repeats": INT},
    ),
    "compare, one algorithm": Door(
        lambda algorithms: gradients.compare(PROBLEM, PARAMS, STATE, XS, YS, {"mine": algorithms}),
        {"algorithms": Argument(gradients.bptt)},
    ),
    "check_gradient": Door(
        gradients.check_gradient,
        {"step": Argument(jr.rnn), "params": OF_PARAMS, "state": Argument(STATE), "xs": Argument(XS, "half")},
        raises=AssertionError,
    ),
    "Problem of bptt": with_problem(gradients.bptt),
    "Problem of snap": with_problem(gradients.snap),
    "what step gives": gives("step", STATE),
    "what loss gives": gives("loss", np.float32(0), "float, scalar"),
    "what select gives": gives("select", PARAMS),
    "online.tbptt": Door(online.tbptt, {"problem": Argument(PROBLEM), "k1": Argument(1), "k2": Argument(2, "int")}),
    "online.rtrl": Door(online.rtrl, {"problem": Argument(PROBLEM), "budget": BUDGET}),
    "online.snap": Door(online.snap, {"problem": Argument(PROBLEM), "order": INT, "budget": BUDGET}),
    "online.uoro": Door(online.uoro, {"problem": Argument(PROBLEM), "samples": INT}),
    "online.batched": Door(online.batched, {"learner": Argument(SNAP)}),
    **{f"kf_rtrl.{name}": door for name, door in learner(KF_RTRL, key=RANDOM).items()},
    **{f"rflo.{name}": door for name, door in learner(RFLO).items()},
    **{f"dni.{name}": door for name, door in learner(DNI).items()},
    **{f"snap.{name}": door for name, door in learner(SNAP).items()},
    **{f"uoro.{name}": door for name, door in learner(UORO, key=RANDOM).items()},
    "batched.init": learner(BATCHED, np.zeros((2, 4), np.float32), Argument(XS[:2], "nan"))["init"],
}


class TestDoors(Attacks):
    doors, more_than = DOORS, 3000
