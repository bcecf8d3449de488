"""Target-based surrogates, SSO (Lavington et al. 2023, arXiv 2302.02607): many steps for one gradient by the outputs.

    z = f(x; batch),   G = gradient of the loss by z,   both where the worker begins its round
    m steps on each of the H batches:  loss(z) + <G, f(y) - z> + |f(y) - z|^2 / (2 eta B)

The surrogate's minimum over all outputs is a gradient step in their space, z_i - eta grad loss_i, which the steps on
the parameters come near to. It bounds the loss from above where the loss of an example is 1/eta-smooth in its outputs.
What is dear in the loss behind the outputs (a simulator, an environment) is asked once a round and batch; the steps
cost the model alone. With m = 1 and H = 1 the algorithm sees its own gradient, as the surrogate has the slope of the
loss at x. The published steps are of gradient descent with a line search; here they are those of any algorithm.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from learned_opt.algorithms.curriculum import own_params
from learned_opt.algorithms.measured import measured_inside
from learned_opt.argument_checks import check_count, check_number
from learned_opt.base import LocalAlgorithm, Params, RoundState

if TYPE_CHECKING:
    from jaxtyping import Array, Float


def with_target_surrogate(
    algorithm: LocalAlgorithm,
    outputs: Callable[[Params, Any], Any],
    output_loss: Callable[[Any, Any], Float[Array, ""]],
    output_rate: float | Array = 1.0,
    num_repeats: int = 10,
) -> LocalAlgorithm:
    """An algorithm whose workers step on surrogates of the loss, made anew every round.

    The loss that `round` is given is not used: it is that of `output_loss`. `RoundInfo.losses` are the surrogate's at
    the first step on each batch, where the round begins the loss itself.

    Args:
      algorithm: of one worker, whose shared or own state has a field `params`; one that is made for a number of local
        steps is made for H m of them.
      outputs: f, (params, batch) -> array or tree of arrays [B, ...].
      output_loss: (outputs, batch) -> scalar, the mean over the batch.
      output_rate: eta, the step in the space of the outputs, above 0.
      num_repeats: m.

    Raises:
      ValueError: m below 1, an eta that is no positive number; by `round`, a state without `params`, or an
        `output_loss` that is no scalar.
    """
    check_count(num_repeats, "num_repeats")
    check_number(output_rate, "output_rate")
    if isinstance(output_rate, int | float) and not output_rate > 0:
        raise ValueError(f"output_rate={output_rate}: use a number above 0")

    def surrogate(params, key, at):
        del key
        moved = jax.tree.map(jnp.subtract, outputs(params, at["batch"]), at["outputs"])
        pairs = zip(jax.tree.leaves(moved), jax.tree.leaves(at["slope"]), strict=True)
        terms = [jnp.sum(g * d) + jnp.sum(d * d) / (2 * output_rate * d.shape[0]) for d, g in pairs]
        return at["loss"] + jnp.sum(jnp.stack(terms).astype(jnp.float32))

    def target(params, batch):
        found = outputs(params, batch)
        loss, slope = jax.value_and_grad(output_loss)(found, batch)
        return {"batch": batch, "outputs": found, "slope": slope, "loss": loss.astype(jnp.float32)}

    def round_fn(loss_fn, state: RoundState, key, batches):
        del loss_fn
        targets = jax.lax.map(lambda batch: target(own_params(state), batch), batches)
        repeated = jax.tree.map(lambda x: jnp.repeat(x, num_repeats, axis=0), targets)
        state, info = algorithm.round(surrogate, state, key, repeated)
        return state, info._replace(losses=info.losses[::num_repeats])

    def around(inner):
        return with_target_surrogate(inner, outputs, output_loss, output_rate, num_repeats)

    return algorithm._replace(
        round=round_fn,
        gradients=lambda num_steps: algorithm.gradients(num_repeats * num_steps),
        measured=measured_inside(algorithm, around),
    )
