"""A neural ordinary differential equation with a fixed-step solver, and regularisation of the solver's error.

    dz/dt = g(z, t),   z(0) = (x, 0),   t in [0, 1],   logit = w . z(1) + b
    g = W_2 tanh(W_1 [z; t] + b_1) + b_2
    loss = mean log(1 + exp(-y logit)) + penalty E,   E = mean over steps and examples of e_j

Two interleaved spirals in the plane, y = +-1, two added coordinates that start at 0 (Dupont, Doucet & Teh 2019, arXiv
1904.01681; Chen et al. 2018, arXiv 1806.07366 for the model). e_j is the root mean square of the difference of the
solver's two answers in step j, which a solver with adaptive steps would keep below a tolerance by taking more steps:

  none    penalty 0
  global  E over all steps: Pal, Ma, Shah & Rackauckas (2021, arXiv 2105.03918)
  local   e_j of one random step, drawn from the loss's key: Pal, Edelman & Rackauckas (2023, arXiv 2303.02262), an
          unbiased estimate of the former at the price of one step

Deviation: the solver's steps are fixed (Bogacki & Shampine 1989, of third order with an estimate of second order), as a
number of steps that depends on the parameters would be no part of one compiled program. Instead of the number of
evaluations, which is then constant, the metric `solver_error` reports E, whatever the penalty. `loss` in the metrics
has E over all steps.
"""

import math
from collections.abc import Callable
from typing import Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from tasks.base import SPLITS, Batch, Data, Params, Task, TaskConfig, TaskFamily, samples_nothing
from tasks.batches import sample_rows, split_of, whole_rows

Regularisation = Literal["none", "local", "global"]
State = Float[Array, "batch dim"]
VectorField = Callable[[State, Float[Array, ""]], State]

NUM_ADDED = 2
NUM_EXAMPLES = {"train": 2048, "inner_valid": 512, "outer_valid": 512, "test": 512}
TURNS = 0.75
NOISE = 0.05
EPSILON = 1e-8
"""Added to squares below the root, as the root has no derivative at 0."""


def bogacki_shampine_step(
    field: VectorField, z: State, slope: State, t: Float[Array, ""], step: float
) -> tuple[State, State, State]:
    """One step of third order.

    Args:
      field: (z, t) -> dz/dt.
      z: at time t.
      slope: dz/dt there.
      t: time.
      step: length h.

    Returns:
      z at t + h, dz/dt there, and the difference from the answer of second order.
    """
    k1 = slope
    k2 = field(z + 0.5 * step * k1, t + 0.5 * step)
    k3 = field(z + 0.75 * step * k2, t + 0.75 * step)
    end = z + step * (2 / 9 * k1 + 1 / 3 * k2 + 4 / 9 * k3)
    k4 = field(end, t + step)
    return end, k4, step * (-5 / 72 * k1 + 1 / 12 * k2 + 1 / 9 * k3 - 1 / 8 * k4)


def solve(field: VectorField, z: State, num_steps: int) -> tuple[State, Float[Array, "steps batch"]]:
    """z at t = 1 from z at t = 0, and the root mean square of each step's error estimate for each example."""
    step = 1 / num_steps

    def one(carry: tuple[State, State], index: jax.Array) -> tuple[tuple[State, State], jax.Array]:
        end, slope, difference = bogacki_shampine_step(field, *carry, index.astype(z.dtype) * step, step)
        return (end, slope), jnp.sqrt(jnp.mean(difference**2, axis=1) + EPSILON**2)

    start = (z, field(z, jnp.zeros((), z.dtype)))
    (end, _), errors = jax.lax.scan(one, start, jnp.arange(num_steps, dtype=jnp.int32))
    return end, errors


def neural_ode(
    regularisation: Regularisation = "none",
    penalty: float = 30.0,
    num_steps: int = 6,
    width: int = 32,
    name: str = "neural_ode",
) -> TaskFamily:
    """Separate two spirals by a flow.

    Args:
      regularisation: "none", "local" or "global".
      penalty: weight of the solver's error, positive; not used with "none".
      num_steps: of the solver.
      width: hidden units of the vector field.
      name: the family's name.

    Raises:
      ValueError: an unknown regularisation, a penalty that is not positive, or a count below 1.
    """
    if regularisation not in get_args(Regularisation):
        raise ValueError(f"regularisation={regularisation!r}: use one of {', '.join(get_args(Regularisation))}")
    if penalty <= 0:
        raise ValueError(f"penalty={penalty}: use a positive value, or regularisation='none'")
    if num_steps < 1 or width < 1:
        raise ValueError(f"num_steps={num_steps}, width={width}: use at least 1")
    weight = 0.0 if regularisation == "none" else penalty
    dim = 2 + NUM_ADDED

    def task(task_config: TaskConfig, data: Data) -> Task:
        del task_config

        def init(key: Key[Array, ""]) -> Params:
            into_key, out_key, read_key = jax.random.split(key, 3)
            lecun = jax.nn.initializers.lecun_normal()
            return {
                "field_in": lecun(into_key, (dim + 1, width), jnp.float32),
                "field_in_bias": jnp.zeros(width, jnp.float32),
                "field_out": lecun(out_key, (width, dim), jnp.float32),
                "field_out_bias": jnp.zeros(dim, jnp.float32),
                "readout": lecun(read_key, (dim, 1), jnp.float32),
                "readout_bias": jnp.zeros(1, jnp.float32),
            }

        def run(params: Params, batch: Batch) -> tuple[Float[Array, " batch"], Float[Array, "steps batch"]]:
            """Margins y logit and the solver's errors."""

            def field(z: State, t: Float[Array, ""]) -> State:
                by_time = params["field_in"][-1] * t + params["field_in_bias"]
                h = jnp.tanh(z @ params["field_in"][:-1] + by_time[None])
                return h @ params["field_out"] + params["field_out_bias"][None]

            x = batch["x"]
            end, errors = solve(field, jnp.concatenate([x, jnp.zeros((len(x), NUM_ADDED), x.dtype)], axis=1), num_steps)
            logits = (end @ params["readout"] + params["readout_bias"][None])[:, 0]
            return logits * batch["label"].astype(logits.dtype), errors

        def loss(params: Params, key: Key[Array, ""], batch: Batch) -> Float[Array, ""]:
            margins, errors = run(params, batch)
            if regularisation == "local":
                errors = errors[jax.random.randint(key, (1,), 0, num_steps, jnp.int32)]
            return jnp.mean(jax.nn.softplus(-margins)) + weight * jnp.mean(errors)

        def sample_batch(key: Key[Array, ""], split: str, batch_shape: tuple[int, ...]) -> Batch:
            return sample_rows(key, split_of(data, split), batch_shape)

        def metrics(params: Params, batch: Batch) -> dict[str, Float[Array, ""]]:
            margins, errors = run(params, batch)
            error = jnp.mean(errors)
            return {
                "loss": jnp.mean(jax.nn.softplus(-margins)) + weight * error,
                "accuracy": jnp.mean((margins > 0).astype(jnp.float32)),
                "solver_error": error,
            }

        return Task(init, loss, sample_batch, metrics)

    # A constant guess needs no flow, hence has no solver's error.
    return TaskFamily(name, spirals(), samples_nothing, task, math.log(2), whole_rows)


def spirals(seed: int = 0) -> Data:
    """Points of two arms that start in opposite directions, with noise; labels are int32, +1 or -1."""
    rng = np.random.default_rng(seed)
    data = {}
    for split in SPLITS:
        n = NUM_EXAMPLES[split]
        label = 1 - 2 * (rng.permutation(n) % 2)
        radius = rng.uniform(0.2, 1, n)
        angle = 2 * math.pi * TURNS * radius
        x = label[:, None] * radius[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)
        x = 1.5 * (x + NOISE * rng.standard_normal((n, 2)))
        data[split] = {"x": x.astype(np.float32), "label": label.astype(np.int32)}
    return data
