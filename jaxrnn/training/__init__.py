"""The Optax loop: jitted chunks of steps, progress, metrics, checkpoints that resume bit for bit, meshes.

`fit` trains; `RunFolder` keeps what it did on disk; `data_mesh` spreads the batch over devices and processes.

>>> import jax.numpy as jnp, optax
>>> from jaxrnn import training
>>> def loss(params, carry, batch, key):
...     return jnp.mean((params["w"] * batch["x"] - batch["y"]) ** 2), (carry, {})
>>> data = {"x": jnp.arange(8.0), "y": 3 * jnp.arange(8.0)}
>>> batches = training.shuffled(data, batch_size=4)
>>> result = training.fit(loss, {"w": jnp.zeros(())}, optax.adam(0.1), batches, steps=200)
>>> result.history[-1]["step"], bool(abs(result.state.params["w"] - 3) < 1e-3)
(200, True)
"""

from ._batches import Batches as Batches
from ._batches import shuffled as shuffled
from ._checkpoint import Best as Best
from ._checkpoint import CheckpointError as CheckpointError
from ._clipping import log_clipping as log_clipping
from ._evaluation import Evaluation as Evaluation
from ._evaluation import early_stopping as early_stopping
from ._folder import RunFolder as RunFolder
from ._folder import RunFolderError as RunFolderError
from ._gradient import Loss as Loss
from ._gradient import StepGradient as StepGradient
from ._gradient import ValueAndGrad as ValueAndGrad
from ._gradient import over_sequences as over_sequences
from ._gradient import over_streams as over_streams
from ._loop import OnChunk as OnChunk
from ._loop import fit as fit
from ._mesh import data_mesh as data_mesh
from ._run import NonFiniteLossError as NonFiniteLossError
from ._run import Result as Result
from ._step import TrainState as TrainState
from ._step import initial_state as initial_state

__all__ = [
    "Batches",
    "Best",
    "CheckpointError",
    "Evaluation",
    "Loss",
    "NonFiniteLossError",
    "OnChunk",
    "Result",
    "RunFolder",
    "RunFolderError",
    "StepGradient",
    "TrainState",
    "ValueAndGrad",
    "data_mesh",
    "early_stopping",
    "fit",
    "initial_state",
    "log_clipping",
    "over_sequences",
    "over_streams",
    "shuffled",
]
