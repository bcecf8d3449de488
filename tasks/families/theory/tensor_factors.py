"""Tensor completion: the factors of a tensor of low rank from some of its entries, with more factors than it needs.

    T_ijk = sum_{l <= r} a_il b_jl c_kl,   a, b, c with independent N(0, 1) entries, T scaled to a mean square of 1
    loss = mean over entries of (sum_{l <= k} f_il g_jl h_kl - T_ijk)^2,   k > r

The canonical polyadic form (Hitchcock 1927; Kolda & Bader 2009, "Tensor Decompositions and Applications", doi
10.1137/07070111X) fitted by gradients (Acar et al. 2011, doi 10.1016/j.chemolab.2010.08.004). There is no noise: the
loss can fall without end, along curvatures that the factors themselves set. The best constant is 0, with a loss of 1.
Half of the entries train, the other splits share the rest.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from tasks.base import Batch, Data, Params, Task, TaskConfig, TaskFamily
from tasks.batches import sample_rows, split_of, whole_rows


def tensor_factors(
    size: int = 12,
    rank: int = 3,
    num_factors: int = 5,
    init_scale: float = 0.3,
    name: str = "tensor_factors",
) -> TaskFamily:
    """Complete a random tensor of low rank.

    Args:
      size: of each of the three axes.
      rank: r of the truth, drawn anew for each task with the factors.
      num_factors: columns k of each fitted factor.
      init_scale: standard deviation of their initial entries.
      name: the family's name.

    Raises:
      ValueError: a size below 2, no rank, fewer factors than the rank, or a scale that is not positive.
    """
    if size < 2 or rank < 1:
        raise ValueError(f"size={size}, rank={rank}: use a size of at least 2 and a rank of at least 1")
    if num_factors < rank:
        raise ValueError(f"num_factors={num_factors}: use at least rank={rank}, or the truth is out of reach")
    if init_scale <= 0:
        raise ValueError(f"init_scale={init_scale}: use a positive value; zero is a saddle point")

    def sample(key: Key[Array, ""]) -> TaskConfig:
        factors = jax.random.normal(key, (3, size, rank), jnp.float32)
        truth = jnp.einsum("il,jl,kl->ijk", *factors)
        return {"factors": factors * jnp.mean(truth**2) ** (-1 / 6)}

    def task(task_config: TaskConfig, data: Data) -> Task:
        def init(key: Key[Array, ""]) -> Params:
            first = init_scale * jax.random.normal(key, (3, size, num_factors), jnp.float32)
            return {f"axis_{i}": first[i] for i in range(3)}

        def loss(params: Params, key: Key[Array, ""], batch: Batch) -> Float[Array, ""]:
            del key
            entry, factors = batch["entry"], [params[f"axis_{i}"] for i in range(3)]
            truth = entries(list(task_config["factors"].astype(factors[0].dtype)), entry)
            return jnp.mean((entries(factors, entry) - truth) ** 2)

        def sample_batch(key: Key[Array, ""], split: str, batch_shape: tuple[int, ...]) -> Batch:
            return sample_rows(key, split_of(data, split), batch_shape)

        return Task(init, loss, sample_batch, lambda params, batch: {"loss": loss(params, jax.random.key(0), batch)})

    return TaskFamily(name, positions(size), sample, task, 1.0, whole_rows)


def entries(factors: list[Float[Array, "size k"]], entry: Array) -> Float[Array, " batch"]:
    """The entries [B, 3] of the tensor of the three factors."""
    return jnp.sum(factors[0][entry[:, 0]] * factors[1][entry[:, 1]] * factors[2][entry[:, 2]], axis=-1)


def positions(size: int, seed: int = 0) -> Data:
    """`{split: {"entry": int32[N, 3]}}`: every entry of the tensor in one of the splits, half of them in `train`."""
    every = np.stack(np.meshgrid(*3 * [np.arange(size, dtype=np.int32)], indexing="ij"), axis=-1).reshape(-1, 3)
    every = np.random.default_rng(seed).permutation(every)
    half, sixth = len(every) // 2, max(1, len(every) // 6)
    starts = {"train": (0, half), "inner_valid": (half, half + sixth), "outer_valid": (half + sixth, half + 2 * sixth)}
    rows = {split: {"entry": every[a:b]} for split, (a, b) in starts.items()}
    return rows | {"test": {"entry": every[half + 2 * sixth :]}}
