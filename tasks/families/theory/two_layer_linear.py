"""Two-layer linear network: a product of two matrices, with a quantity that gradient flow conserves.

    y = M x,   x ~ N(0, I),   |M|_F = 1,   loss = mean 1/2 |U V^T x - y|^2
    Q = U^T U - V^T V is constant under gradient flow, whatever the data

Tarmoun, Franca, Haeffele and Vidal (2021, "Understanding the Dynamics of Gradient Flow in Overparameterized Linear
Models", ICML): the loss depends on U V^T alone, so rotating the hidden units changes nothing and Q is what this
symmetry conserves; a large Q makes convergence faster. An optimizer with finite or coordinate-wise steps lets Q drift,
and `balancedness_drift`, |Q - Q_0|_F, says by how much. For it to be known without the initial parameters, U and V
start with orthonormal columns times `u_scale` and `v_scale`, which makes Q_0 = (u_scale^2 - v_scale^2) I.

Each task has its own M, in the configuration; the inputs are fixed (seed 0).
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from tasks.base import SPLITS, Batch, Data, Params, Task, TaskConfig, TaskFamily
from tasks.batches import sample_rows, split_of, whole_rows


def conserved_quantity(params: Params) -> Float[Array, "hidden hidden"]:
    """Q = U^T U - V^T V."""
    return params["u"].T @ params["u"] - params["v"].T @ params["v"]


def orthonormal_columns(key: jax.Array, num_rows: int, num_columns: int) -> Float[Array, "rows columns"]:
    """The first columns of the identity after as many random reflections as it has rows.

    Close to uniformly distributed, and arithmetic alone: a QR decomposition would call LAPACK.
    """

    def reflect(columns: jax.Array, normal: jax.Array) -> tuple[jax.Array, None]:
        return columns - jnp.outer(normal, normal @ columns) * (2 / (normal @ normal)), None

    normals = jax.random.normal(key, (num_rows, num_rows), jnp.float32)
    return jax.lax.scan(reflect, jnp.eye(num_rows, num_columns, dtype=jnp.float32), normals)[0]


def two_layer_linear(
    num_inputs: int = 16,
    num_outputs: int = 16,
    width: int = 16,
    u_scale: float = 0.3,
    v_scale: float = 0.3,
    num_train: int = 1024,
    name: str = "two_layer_linear",
) -> TaskFamily:
    """Fit U V^T to a linear map.

    Args:
      num_inputs: size of x.
      num_outputs: size of y.
      width: hidden units, at most the smaller of the two.
      u_scale: singular values of U [num_outputs, width] at the start.
      v_scale: singular values of V [num_inputs, width] at the start.
      num_train: training inputs; the other splits have 256 each.
      name: the family's name.

    Raises:
      ValueError: the width is not in [1, min(num_inputs, num_outputs)], or a scale is not positive.
    """
    if not 1 <= width <= min(num_inputs, num_outputs):
        raise ValueError(f"width={width}: orthonormal columns need 1 <= width <= {min(num_inputs, num_outputs)}")
    if min(u_scale, v_scale) <= 0:
        raise ValueError(f"u_scale={u_scale}, v_scale={v_scale}: use positive values; zero is a saddle point")

    def sample(key: jax.Array) -> TaskConfig:
        truth = jax.random.normal(key, (num_outputs, num_inputs), jnp.float32)
        return {"truth": truth / jnp.linalg.norm(truth)}

    def task(task_config: TaskConfig, data: Data) -> Task:
        def init(key: jax.Array) -> Params:
            u_key, v_key = jax.random.split(key)
            return {
                "u": u_scale * orthonormal_columns(u_key, num_outputs, width),
                "v": v_scale * orthonormal_columns(v_key, num_inputs, width),
            }

        def mean_loss(params: Params, batch: Batch) -> Float[Array, ""]:
            x = batch["x"]
            residual = (x @ params["v"]) @ params["u"].T - x @ task_config["truth"].astype(x.dtype).T
            return 0.5 * jnp.mean(jnp.sum(residual**2, axis=-1))

        def loss(params: Params, key: jax.Array, batch: Batch) -> Float[Array, ""]:
            del key
            return mean_loss(params, batch)

        def sample_batch(key: jax.Array, split: str, batch_shape: tuple[int, ...]) -> Batch:
            return sample_rows(key, split_of(data, split), batch_shape)

        def metrics(params: Params, batch: Batch) -> dict[str, Float[Array, ""]]:
            u, v = params["u"], params["v"]
            q_start = (u_scale**2 - v_scale**2) * jnp.eye(width, dtype=u.dtype)
            return {
                "loss": mean_loss(params, batch),
                "relative_error": jnp.linalg.norm(u @ v.T - task_config["truth"].astype(u.dtype)),
                "balancedness_drift": jnp.linalg.norm(conserved_quantity(params) - q_start),
            }

        return Task(init, loss, sample_batch, metrics)

    rng = np.random.default_rng(0)
    data = {
        split: {"x": rng.standard_normal((num_train if split == "train" else 256, num_inputs), np.float32)}
        for split in SPLITS
    }
    # The best constant guess is y = 0; E |y|^2 = |M|_F^2 = 1.
    return TaskFamily(name, data, sample, task, 0.5, whole_rows)
