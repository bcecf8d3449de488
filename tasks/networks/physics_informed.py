"""Physics-informed training: a network u_w(t, x) is fitted to a differential equation instead of to data.

    loss(w) = mean r(t, x)^2 + mean (u_w(0, x) - u_0(x))^2 + mean u_w(t, x_boundary)^2

for the residual r of the equation, the initial condition u_0 and a zero boundary condition, each mean over points of
its own (Raissi, Perdikaris & Karniadakis 2019, "Physics-informed neural networks", JCP 378; the terms have equal
weights as there). The exact solution never enters the loss; it is what `relative_l2` compares with.

Derivatives with respect to the inputs are nested forward-mode products, so that the gradient with respect to w is the
only reverse pass. The collocation points are fixed in number and place, as in that paper, and batches are drawn
from them.
"""

from collections.abc import Callable, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from tasks.base import Batch, Data, Params, Task, TaskConfig, TaskFamily, samples_nothing
from tasks.batches import sample_rows, split_of, whole_rows

Solution = Callable[[Float[Array, "batch points dim"]], Float[Array, "batch points"]]
"""Points (t, x, ...) -> u there."""

AxisIndex = int | Int[Array, ""]


class CoordinateNetwork(nn.Module):
    """Points [..., dim] -> u [...], through tanh layers with Glorot normal weights (Glorot & Bengio 2010).

    The inputs are mapped from the box `lower`..`upper` to [-1, 1] first. The weights of the last layer start at a
    tenth, so that the network starts near the zero function, the best constant guess, whatever the seed.
    """

    hidden_sizes: tuple[int, ...]
    lower: tuple[float, ...]
    upper: tuple[float, ...]

    @nn.compact
    def __call__(self, points: Float[Array, "*batch dim"]) -> Float[Array, "*batch"]:
        dtype = points.dtype
        scale = 2 / (np.asarray(self.upper) - np.asarray(self.lower))
        centre = (np.asarray(self.upper) + np.asarray(self.lower)) / 2
        lead = (1,) * (points.ndim - 1)
        h = (points - jnp.asarray(centre, dtype).reshape(*lead, -1)) * jnp.asarray(scale, dtype).reshape(*lead, -1)
        for size in self.hidden_sizes:
            h = jnp.tanh(nn.Dense(size, kernel_init=nn.initializers.glorot_normal())(h))
        last = nn.Dense(1, kernel_init=nn.initializers.variance_scaling(0.01, "fan_avg", "truncated_normal"))
        return last(h)[..., 0]


def coordinate_network(
    hidden_sizes: Sequence[int], lower: tuple[float, ...], upper: tuple[float, ...]
) -> CoordinateNetwork:
    """The network of a box.

    Raises:
      ValueError: no hidden layer, or a width below 1.
    """
    if not hidden_sizes or min(hidden_sizes) < 1:
        raise ValueError(f"hidden_sizes={tuple(hidden_sizes)}: use one width of at least 1 or more")
    return CoordinateNetwork(tuple(hidden_sizes), lower, upper)


def network_solution(model: nn.Module, reads: tuple[str, ...] = ()) -> Callable[[Params, Batch], Solution]:
    """(params, batch) -> the function u that a network of points is, given the leaves `reads` of the batch too."""

    def solution(params: Params, batch: Batch) -> Solution:
        return lambda points: model.apply({"params": params}, points, *(batch[leaf] for leaf in reads))  # pyright: ignore[reportReturnType]

    return solution


def first_derivative(u: Solution, points: Float[Array, "*batch dim"], axis: AxisIndex) -> Float[Array, "..."]:
    """du/dp_axis at each point, by one forward-mode product: a point's u depends on that point alone."""
    return jax.jvp(u, (points,), (unit_vectors(points, axis),))[1]


def second_derivative(
    u: Solution, points: Float[Array, "*batch dim"], axis: AxisIndex
) -> tuple[Float[Array, "..."], Float[Array, "..."], Float[Array, "..."]]:
    """u, du/dp_axis and d2u/dp_axis^2 at each point, by two nested forward-mode products."""
    direction = unit_vectors(points, axis)

    def value_and_slope(points: jax.Array) -> tuple[jax.Array, jax.Array]:
        return jax.jvp(u, (points,), (direction,))

    (value, slope), (_, curvature) = jax.jvp(value_and_slope, (points,), (direction,))
    return value, slope, curvature


def unit_vectors(points: Float[Array, "*batch dim"], axis: AxisIndex) -> Float[Array, "*batch dim"]:
    """The unit vector along `axis`, for each point."""
    unit = (jnp.arange(points.shape[-1]) == axis).astype(points.dtype)
    return jnp.broadcast_to(unit, points.shape)


def relative_l2(estimate: Float[Array, "n"], exact: Float[Array, "n"]) -> Float[Array, ""]:
    """norm(estimate - exact) / norm(exact): 1 for the zero function."""
    return jnp.sqrt(jnp.sum((estimate - exact) ** 2) / jnp.sum(exact**2))


def physics_informed_task(
    init: Callable[[Key[Array, ""]], Params],
    solution: Callable[[Params, Batch], Solution],
    residual: Callable[[Solution, Float[Array, "batch points dim"]], Float[Array, "batch points"]],
    data: Data,
) -> Task:
    """The task of solving a differential equation.

    Args:
      init: key -> params.
      solution: (params, batch) -> the function u of points [B, P, dim], where row b may depend on the batch's row b.
      residual: (u, points) -> what vanishes for a solution.
      data: rows `interior`, `initial`, `boundary` float32 [N, dim], a point (t, x, ...) of each kind; `u_initial` [N],
        the initial condition there; `u_interior` [N], the exact solution, read by the metrics only.
    """

    def terms(params: Params, batch: Batch) -> tuple[Float[Array, "batch"], Float[Array, "batch"]]:
        """Residual at the interior points, and the squared misfit at the other two, of each row."""
        u = solution(params, batch)
        edges = u(jnp.stack([batch["initial"], batch["boundary"]], axis=1))
        misfit = (edges[:, 0] - batch["u_initial"]) ** 2 + edges[:, 1] ** 2
        return residual(u, batch["interior"][:, None])[:, 0], misfit

    def loss(params: Params, key: Key[Array, ""], batch: Batch) -> Float[Array, ""]:
        del key
        equation, misfit = terms(params, batch)
        return jnp.mean(equation**2 + misfit)

    def sample_batch(key: Key[Array, ""], split: str, batch_shape: tuple[int, ...]) -> Batch:
        return sample_rows(key, split_of(data, split), batch_shape)

    def metrics(params: Params, batch: Batch) -> dict[str, Float[Array, ""]]:
        equation, misfit = terms(params, batch)
        estimate = solution(params, batch)(batch["interior"][:, None])[:, 0]
        return {
            "loss": jnp.mean(equation**2 + misfit),
            "relative_l2": relative_l2(estimate, batch["u_interior"]),
            "mean_squared_residual": jnp.mean(equation**2),
        }

    return Task(init, loss, sample_batch, metrics)


def physics_informed_family(
    name: str,
    data: Data,
    model: nn.Module,
    residual: Callable[[Solution, Float[Array, "batch points dim"]], Float[Array, "batch points"]],
    uninformed_loss: float,
    reads: tuple[str, ...] = (),
) -> TaskFamily:
    """The family of one differential equation.

    Args:
      name: the family's name.
      data: as for `physics_informed_task`.
      model: points [B, P, dim], and the leaves `reads` -> u [B, P].
      residual: as for `physics_informed_task`.
      uninformed_loss: of the zero function.
      reads: leaves of a row that say which solution is meant, such as samples of its initial condition.
    """
    points, *read = (data["train"][leaf].shape[1:] for leaf in ("interior", *reads))
    shapes = [jax.ShapeDtypeStruct(shape, "float32") for shape in ((1, 1, *points), *((1, *shape) for shape in read))]

    def task(task_config: TaskConfig, data: Data) -> Task:
        del task_config

        def init(key: Key[Array, ""]) -> Params:
            return model.lazy_init(key, *shapes)["params"]

        return physics_informed_task(init, network_solution(model, reads), residual, data)

    return TaskFamily(name, data, samples_nothing, task, uninformed_loss, whole_rows)
