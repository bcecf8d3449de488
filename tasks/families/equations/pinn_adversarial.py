"""The physics-informed network for Burgers' equation, trained where its own residual is large.

    loss = mean r(p_J)^2 + initial and boundary terms,   P(J = j) = r(p_j)^2 / sum_i r(p_i)^2

Every row of a batch holds m candidate points p_1 ... p_m. The residual r of the present network decides at which one of
them it is trained: an adversary that chooses points, in the form that a task without state allows. Equation, network
and the other terms are those of `pinn_burgers`, which is m = 1.

After adversarial adaptive sampling (Tang, Zhai, Wan & Yang 2023, arXiv 2305.18702): minimise over the network and
maximise over a density of points. There the density is a normalising flow with an optimizer of its own, kept smooth by
a penalty, and points are resampled between stages of training; here there is nothing to train beside the network, the
density is proportional to the squared residual on the candidates, which bounds it by m times the uniform one, and
points are resampled in every step. The choice depends on the loss's key; no gradient flows through it.

`loss` in the metrics is the expectation over J. `relative_l2` and `mean_squared_residual` are over uniform points, as
for `pinn_burgers`.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from tasks.base import Batch, Data, Params, Task, TaskConfig, TaskFamily
from tasks.families.equations.pinn_burgers import LOWER, UNINFORMED_LOSS, UPPER, burgers_data, burgers_residual
from tasks.networks.physics_informed import coordinate_network, network_solution, physics_informed_family


def with_candidates(data: Data, num_candidates: int, seed: int = 1) -> Data:
    """`data` with a leaf `candidates` [N, m, 2]: uniform points (t, x), the row's interior point first."""
    rng = np.random.default_rng(seed)
    found = {}
    for split, rows in data.items():
        n = len(rows["interior"])
        t, x = rng.uniform(0, 1, (n, num_candidates)), rng.uniform(-1, 1, (n, num_candidates))
        candidates = np.stack([t, x], axis=-1).astype(np.float32)
        candidates[:, 0] = rows["interior"]
        found[split] = {**rows, "candidates": candidates}
    return found


def pinn_adversarial(
    num_candidates: int = 4, hidden_sizes: Sequence[int] = (32, 32, 32), name: str = "pinn_adversarial"
) -> TaskFamily:
    """Solve Burgers' equation with a tanh network of (t, x), at collocation points chosen by their residual.

    Args:
      num_candidates: points m among which the residual chooses, for each row of a batch.
      hidden_sizes: widths of the hidden layers.
      name: the family's name.

    Raises:
      ValueError: no candidate, no hidden layer, or a width below 1.
    """
    if num_candidates < 1:
        raise ValueError(f"num_candidates={num_candidates}: use at least 1")
    model = coordinate_network(hidden_sizes, lower=LOWER, upper=UPPER)
    solution = network_solution(model)
    data = with_candidates(burgers_data(), num_candidates)
    family = physics_informed_family(name, data, model, burgers_residual, UNINFORMED_LOSS)

    def task(task_config: TaskConfig, data: Data) -> Task:
        uniform = family.task(task_config, data)

        def squared_residuals(params: Params, batch: Batch) -> Float[Array, "batch candidates"]:
            return burgers_residual(solution(params, batch), batch["candidates"]) ** 2

        def loss(params: Params, key: Key[Array, ""], batch: Batch) -> Float[Array, ""]:
            weights = squared_residuals(jax.lax.stop_gradient(params), batch)
            chosen = jax.random.categorical(key, jnp.log(weights), axis=1)
            points = jnp.take_along_axis(batch["candidates"], chosen[:, None, None], axis=1)[:, 0]
            return uniform.loss(params, key, batch | {"interior": points})

        def metrics(params: Params, batch: Batch) -> dict[str, Float[Array, ""]]:
            found = uniform.metrics(params, batch)
            squares = squared_residuals(params, batch)
            # Where a row's residuals vanish, so does their expectation.
            total = jnp.maximum(jnp.sum(squares, axis=1), jnp.finfo(squares.dtype).tiny)
            expected = jnp.mean(jnp.sum(squares**2, axis=1) / total)
            return found | {"loss": found["loss"] - found["mean_squared_residual"] + expected}

        return uniform._replace(loss=loss, metrics=metrics)

    return family._replace(task=task)
