"""Sparse parity: the label is the product of a few bits among many.

    x uniform on {-1, +1}^n,   y = product of k of the bits (the same k for all x)
    f(x) = relu(relu(x W_1) W_2) w_3,   loss = mean log(1 + exp(-y f(x)))

No smaller subset of the bits is correlated with y, so the gradient says little about which bits matter and training
stays on a plateau before it drops. Barak et al. (2022, "Hidden Progress in Deep Learning", arXiv 2207.08799); with a
finite training set as a grokking task: Prieto et al. (2025, arXiv 2501.04697), who use 4 + 50 bits, 1,000 examples and
a 200-200 network. Here the defaults are smaller.

The k bits are always the first ones: a network with exchangeable inputs cannot tell, so sampling them would add
nothing. Deviation: no biases and an even k (a two-layer ReLU network without biases cannot express odd parities).
"""

import math
from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from tasks.base import SPLITS, Batch, Data, Params, Task, TaskConfig, TaskFamily, samples_nothing
from tasks.batches import sample_rows, split_of, whole_rows


class BitNetwork(nn.Module):
    """Bits [B, n] -> output [B], no biases."""

    hidden_sizes: tuple[int, ...]

    @nn.compact
    def __call__(self, bits: Float[Array, "batch bits"]) -> Float[Array, " batch"]:
        h = bits
        for size in self.hidden_sizes:
            h = nn.relu(nn.Dense(size, use_bias=False)(h))
        return nn.Dense(1, use_bias=False)(h)[:, 0]


def sparse_parity(
    num_parity_bits: int = 4,
    num_noise_bits: int = 26,
    hidden_sizes: Sequence[int] = (64, 64),
    num_train: int = 512,
    name: str = "sparse_parity",
) -> TaskFamily:
    """Learn the parity of `num_parity_bits` among `num_parity_bits + num_noise_bits` bits.

    Args:
      num_parity_bits: k, even.
      num_noise_bits: n - k.
      hidden_sizes: widths of the hidden layers.
      num_train: training examples; the other splits have 500 each. No example occurs twice.
      name: the family's name.

    Raises:
      ValueError: k is not a positive even number, a width is below 1, or there are too few distinct examples.
    """
    if num_parity_bits < 2 or num_parity_bits % 2:
        raise ValueError(f"num_parity_bits={num_parity_bits}: use an even number of at least 2")
    if any(size < 1 for size in hidden_sizes):
        raise ValueError(f"hidden_sizes={tuple(hidden_sizes)}: every width must be at least 1")
    model = BitNetwork(tuple(hidden_sizes))
    data = distinct_examples(num_parity_bits, num_parity_bits + num_noise_bits, num_train)

    def task(task_config: TaskConfig, data: Data) -> Task:
        del task_config

        def init(key: jax.Array) -> Params:
            spec = jax.ShapeDtypeStruct((1, num_parity_bits + num_noise_bits), "float32")
            return model.lazy_init(key, spec)["params"]

        def margins(params: Params, batch: Batch) -> jax.Array:
            bits = batch["bits"].astype(jax.tree.leaves(params)[0].dtype)
            return model.apply({"params": params}, bits) * batch["label"].astype(bits.dtype)

        def loss(params: Params, key: jax.Array, batch: Batch) -> Float[Array, ""]:
            del key
            return jnp.mean(jax.nn.softplus(-margins(params, batch)))

        def sample_batch(key: jax.Array, split: str, batch_shape: tuple[int, ...]) -> Batch:
            return sample_rows(key, split_of(data, split), batch_shape)

        def metrics(params: Params, batch: Batch) -> dict[str, Float[Array, ""]]:
            margin = margins(params, batch)
            return {
                "loss": jnp.mean(jax.nn.softplus(-margin)),
                "accuracy": jnp.mean((margin > 0).astype(jnp.float32)),
            }

        return Task(init, loss, sample_batch, metrics)

    # Both labels are equally likely: output 0.
    return TaskFamily(name, data, samples_nothing, task, math.log(2), whole_rows)


def distinct_examples(num_parity_bits: int, num_bits: int, num_train: int) -> Data:
    """Distinct bit strings as int8, label +1 or -1 as int32: the product of the first bits."""
    sizes = [num_train if split == "train" else 500 for split in SPLITS]
    if num_bits > 62 or sum(sizes) > 2**num_bits // 2:
        raise ValueError(
            f"{num_bits} bits and {num_train} training examples: use at most 62 bits, and enough of them for "
            f"twice {sum(sizes)} distinct examples"
        )
    rng = np.random.default_rng(0)
    codes = rng.permutation(np.unique(rng.integers(0, 2**num_bits, 4 * sum(sizes))))[: sum(sizes)]
    bits = (2 * (codes[:, None] >> np.arange(num_bits) & 1) - 1).astype(np.int8)
    parts = np.split(bits, np.cumsum(sizes)[:-1])
    return {
        split: {"bits": part, "label": part[:, :num_parity_bits].prod(-1, dtype=np.int32)}
        for split, part in zip(SPLITS, parts, strict=True)
    }
