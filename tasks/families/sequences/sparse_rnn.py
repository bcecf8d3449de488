"""A recurrent network most of whose weights are absent.

    W -> M * W,   M_ij = 1 with probability `density`, else 0

The cells of `text_rnn`, with a mask M on every input and recurrent matrix; biases, embedding and output layer are
whole. Training a sparse network from scratch: Liu et al. (2021, "Selfish Sparse RNN Training", arXiv 2101.09048; LSTMs
on text at a density of 0.33). There a part of the weights is moved elsewhere from time to time, which is a part of the
optimizer that changes the problem under it; here the masks are fixed for a task, the static baseline of that paper.
Each task has its own masks, in the configuration.

Absent weights are parameters that start at zero and whose gradient is zero; whatever an optimizer does to them, the
loss does not depend on them. `metrics` has the perplexity, which the field reports, beside those of a language model.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from tasks.base import Batch, Data, Params, Task, TaskConfig, TaskFamily
from tasks.families.sequences.text_rnn import text_rnn


def masked(params: Params, masks: dict[str, Array]) -> Params:
    """The parameters of a `text_rnn` with absent weights at zero; masks by name of the matrix."""

    def present(weights: Array, mask: Array) -> Array:
        return weights * mask.astype(weights.dtype) if weights.ndim == 2 else weights

    kept = {
        name: jax.tree.map(lambda leaf, mask=mask: present(leaf, mask), params[name]) for name, mask in masks.items()
    }
    return {**params, **kept}


def sparse_rnn(
    data: Data,
    vocab_size: int,
    cell: str = "lstm",
    hidden_size: int = 64,
    depth: int = 1,
    density: float = 0.33,
    name: str = "sparse_rnn",
) -> TaskFamily:
    """Predict the next token of the rows of `data` with a sparse recurrent network.

    Args:
      data: `{split: {"tokens": uint8[N, L]}}`, rows of consecutive tokens.
      vocab_size: tokens lie in [0, vocab_size).
      cell: "lstm" or "gru".
      hidden_size: width of an embedded token and of the state.
      depth: layers.
      density: share of the weights of a masked matrix that is present, in (0, 1].
      name: the family's name.

    Raises:
      ValueError: a density outside (0, 1], or what `text_rnn` refuses.
    """
    if not 0 < density <= 1:
        raise ValueError(f"density={density}: use a share in (0, 1]")
    dense = text_rnn(data, vocab_size, cell, hidden_size, depth, name)
    shapes = jax.eval_shape(dense.task({}, dense.data).init, jax.random.key(0))
    matrices = {
        key: jax.tree.leaves(value)[-1].shape
        for key, value in shapes.items()
        if key.startswith(("input_", "recurrent_"))
    }

    def sample(key: Key[Array, ""]) -> TaskConfig:
        keys = jax.random.split(key, len(matrices))
        drawn = zip(sorted(matrices.items()), keys, strict=True)
        return {name: jax.random.bernoulli(own, density, shape).astype(jnp.float32) for (name, shape), own in drawn}

    def task(task_config: TaskConfig, data: Data) -> Task:
        inner = dense.task({}, data)

        def init(key: Key[Array, ""]) -> Params:
            return masked(inner.init(key), task_config)

        def loss(params: Params, key: Key[Array, ""], batch: Batch) -> Float[Array, ""]:
            return inner.loss(masked(params, task_config), key, batch)

        def metrics(params: Params, batch: Batch) -> dict[str, Float[Array, ""]]:
            found = inner.metrics(masked(params, task_config), batch)
            return found | {"perplexity": jnp.exp(found["loss"])}

        return inner._replace(init=init, loss=loss, metrics=metrics)

    return dense._replace(sample=sample, task=task)
