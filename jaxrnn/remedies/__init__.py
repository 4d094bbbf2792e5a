"""Against vanishing and exploding gradients: initialisations, regularisers, noise, and cells that carry gradients far.

    params = chrono(key, params, max_length)        initialisations: of any parameters with torch's names
    loss = loss + floss(step, params, state, xs, k) terms of a loss, on any step
    cell = zoneout(cell, 0.1)                       cells of cells: zoneout and dropout

Initialisations `orthogonal`, `identity`, `scaled_spectral`, `chrono`, `forget_gate_bias`; losses `omega`, `floss`,
`activation_regulariser`, `temporal_activation_regulariser`; `weight_noise`; cells of cells `zoneout`,
`recurrent_dropout`, `variational_dropout`, whose noise acts where parameters come with a key, as `Keyed(params, key)`.
Cells that exist because of gradients are beside the others: `jr.indrnn`, `jr.antisymmetric_rnn`, `jr.cornn`,
`jr.orthogonal_cell`, `jr.leaky_rnn`, `jr.slstm`, `jr.layer_norm_rnn`, `jr.layer_norm_gru`, `jr.layer_norm_lstm`.
Clipping is Optax's, its events logged by `training.log_clipping`.
"""

from ._dropout import Masked as Masked
from ._dropout import recurrent_dropout as recurrent_dropout
from ._dropout import variational_dropout as variational_dropout
from ._flossing import floss as floss
from ._initialisation import chrono as chrono
from ._initialisation import forget_gate_bias as forget_gate_bias
from ._initialisation import identity as identity
from ._initialisation import orthogonal as orthogonal
from ._initialisation import scaled_spectral as scaled_spectral
from ._noise import Keyed as Keyed
from ._noise import Noise as Noise
from ._noise import Noisy as Noisy
from ._noise import weight_noise as weight_noise
from ._omega import omega as omega
from ._outputs import activation_regulariser as activation_regulariser
from ._outputs import temporal_activation_regulariser as temporal_activation_regulariser
from ._zoneout import zoneout as zoneout

__all__ = [
    "Keyed",
    "Masked",
    "Noise",
    "Noisy",
    "activation_regulariser",
    "chrono",
    "floss",
    "forget_gate_bias",
    "identity",
    "omega",
    "orthogonal",
    "recurrent_dropout",
    "scaled_spectral",
    "temporal_activation_regulariser",
    "variational_dropout",
    "weight_noise",
    "zoneout",
]
