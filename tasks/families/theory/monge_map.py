"""An optimal-transport map between two point clouds, fitted with the Monge gap.

    x ~ N(0, I_2),   y = T*(x'),   T*(x) = x / 2 + sum_k v_k tanh(v_k . x),   x' drawn independently of x
    loss = S(T(x), y) + penalty M(x, T(x))

S is the Sinkhorn divergence of two batches (Genevay, Peyre & Cuturi 2018, arXiv 1706.00292), zero where they are equal:
it makes the image of T the right distribution. Many maps do that; the Monge gap M (Uscidda & Cuturi 2023, arXiv
2302.04953) is how much more the pairs (x_i, T(x_i)) cost than the cheapest pairing of the same points. With the cost
c(x, y) = |x - y|^2 / 2, and W_eps the entropic transport cost of two batches of n points with equal weights,

    W_eps(x, y) = min over couplings P of sum P_ij c(x_i, y_j) + eps KL(P | uniform)
    S(x, y) = W_eps(x, y) - (W_eps(x, x) + W_eps(y, y)) / 2
    M(x, T) = mean_i c(x_i, T(x_i)) + eps log n - W_eps(x, T(x))

The eps log n is the entropic term of the pairs themselves, one possible coupling, so that M >= 0; published with
another constant. W_eps is the dual value after a fixed number of Sinkhorn iterations, through which gradients flow.

T* is the gradient of a convex function, hence the optimal map (Brenier 1991). Each task has its own v_k, in the
configuration. Metrics: `unexplained_variance`, E|T(x) - T*(x)|^2 / Var(y) on the batch, what the field calls L2-UVP
(Korotin et al. 2021, arXiv 2106.01954); `monge_gap`. Loss and metrics are functions of the whole batch, the metrics of
its first 256 pairs at most: couplings cost with the square of the points.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from tasks.base import SPLITS, Batch, Data, Params, Task, TaskConfig, TaskFamily
from tasks.batches import sample_rows, split_of, whole_rows

NUM_EXAMPLES = {"train": 4096, "inner_valid": 256, "outer_valid": 256, "test": 256}
NUM_DIRECTIONS = 3
DIRECTION_STD = 0.7
MOST_PAIRS = 256
UNINFORMED_LOSS = 2.1
"""Half the variance of y, averaged over tasks: the cost of a constant map, whose Monge gap is 0, up to terms of order
epsilon."""


class TransportMap(nn.Module):
    """Points [B, 2] -> points [B, 2]; starts near the constant map to 0, whatever the seed."""

    width: int

    @nn.compact
    def __call__(self, x: Float[Array, "batch 2"]) -> Float[Array, "batch 2"]:
        h = nn.silu(nn.Dense(self.width)(x))
        h = nn.silu(nn.Dense(self.width)(h))
        return nn.Dense(2, kernel_init=nn.initializers.variance_scaling(0.01, "fan_in", "truncated_normal"))(h)


def optimal_map(x: Float[Array, "batch 2"], directions: Float[Array, "directions 2"]) -> Float[Array, "batch 2"]:
    """T*: the gradient of |x|^2 / 4 + sum_k log cosh(v_k . x)."""
    return 0.5 * x + jnp.tanh(x @ directions.T) @ directions


def half_squared_distances(x: Float[Array, "n dim"], y: Float[Array, "m dim"]) -> Float[Array, "n m"]:
    """|x_i - y_j|^2 / 2."""
    return 0.5 * jnp.sum((x[:, None] - y[None]) ** 2, axis=-1)


def entropic_cost(
    x: Float[Array, "n dim"], y: Float[Array, "m dim"], epsilon: float, num_iterations: int
) -> Float[Array, ""]:
    """W_eps(x, y): the dual value after Sinkhorn's iterations (Cuturi 2013, arXiv 1306.0895) on logarithms.

    A lower bound that rises to W_eps with the iterations.
    """
    cost = half_squared_distances(x, y)

    def soft_min(values: Float[Array, "n m"], axis: int) -> Array:
        return -epsilon * (jax.nn.logsumexp(-values / epsilon, axis=axis) - np.log(values.shape[axis]).item())

    def iterate(g: jax.Array, _: None) -> tuple[jax.Array, None]:
        f = soft_min(cost - g[None], axis=1)
        return soft_min(cost - f[:, None], axis=0), None

    g, _ = jax.lax.scan(iterate, jnp.zeros_like(cost[0]), length=num_iterations)
    # After an update of f the mass of the coupling is 1, and the dual value is the mean of both potentials.
    return jnp.mean(soft_min(cost - g[None], axis=1)) + jnp.mean(g)


def monge_gap(
    x: Float[Array, "n dim"], image: Float[Array, "n dim"], epsilon: float, num_iterations: int
) -> Float[Array, ""]:
    """M: what pairing x_i with image_i costs beyond the cheapest coupling, entropic terms included."""
    paired = jnp.mean(0.5 * jnp.sum((x - image) ** 2, axis=-1)) + epsilon * np.log(len(x)).item()
    return paired - entropic_cost(x, image, epsilon, num_iterations)


def monge_map(
    penalty: float = 1.0,
    epsilon: float = 0.05,
    num_iterations: int = 20,
    width: int = 32,
    name: str = "monge_map",
) -> TaskFamily:
    """Fit the optimal map from a Gaussian to its image.

    Args:
      penalty: weight of the Monge gap, 0 or more.
      epsilon: strength of the entropic term, in units of the cost.
      num_iterations: of Sinkhorn.
      width: of both hidden layers.
      name: the family's name.

    Raises:
      ValueError: a negative penalty, an epsilon that is not positive, or a count below 1.
    """
    if penalty < 0 or epsilon <= 0:
        raise ValueError(f"penalty={penalty}, epsilon={epsilon}: use a penalty of 0 or more and a positive epsilon")
    if num_iterations < 1 or width < 1:
        raise ValueError(f"num_iterations={num_iterations}, width={width}: use at least 1")
    model = TransportMap(width)

    def sample(key: jax.Array) -> TaskConfig:
        return {"directions": DIRECTION_STD * jax.random.normal(key, (NUM_DIRECTIONS, 2), jnp.float32)}

    def task(task_config: TaskConfig, data: Data) -> Task:
        def truth(x: jax.Array) -> jax.Array:
            return optimal_map(x, task_config["directions"].astype(x.dtype))

        def init(key: jax.Array) -> Params:
            return model.lazy_init(key, jax.ShapeDtypeStruct((1, 2), "float32"))["params"]

        def image_of(params: Params, batch: Batch) -> jax.Array:
            return model.apply({"params": params}, batch["x"])  # pyright: ignore[reportReturnType]

        def divergence(image: jax.Array, y: jax.Array) -> Float[Array, ""]:
            across, own, other = (
                entropic_cost(a, b, epsilon, num_iterations) for a, b in ((image, y), (image, image), (y, y))
            )
            return across - 0.5 * (own + other)

        def loss(params: Params, key: jax.Array, batch: Batch) -> Float[Array, ""]:
            del key
            image = image_of(params, batch)
            fit = divergence(image, truth(batch["other_x"]))
            return fit + penalty * monge_gap(batch["x"], image, epsilon, num_iterations)

        def sample_batch(key: jax.Array, split: str, batch_shape: tuple[int, ...]) -> Batch:
            return sample_rows(key, split_of(data, split), batch_shape)

        def metrics(params: Params, batch: Batch) -> dict[str, Float[Array, ""]]:
            batch = jax.tree.map(lambda x: x[:MOST_PAIRS], batch)
            image, best = image_of(params, batch), truth(batch["x"])
            error = jnp.sum((image - best) ** 2)
            return {
                "loss": loss(params, jax.random.key(0), batch),
                "unexplained_variance": error / jnp.sum((best - jnp.mean(best, axis=0, keepdims=True)) ** 2),
                "monge_gap": monge_gap(batch["x"], image, epsilon, num_iterations),
            }

        return Task(init, loss, sample_batch, metrics)

    rng = np.random.default_rng(0)
    data: Data = {
        split: {leaf: rng.standard_normal((NUM_EXAMPLES[split], 2), np.float32) for leaf in ("x", "other_x")}
        for split in SPLITS
    }
    return TaskFamily(name, data, sample, task, UNINFORMED_LOSS, whole_rows)
