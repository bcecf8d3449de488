"""Next-token prediction as a `TaskFamily`: what language models share once the network is given.

    loss = mean over t = 1 ... L - 1 of -log p(x_t | x_0, ..., x_{t-1}),   in nats

The constant guess predicts the frequencies of the training tokens, whatever came before: its loss is their entropy,
below ln V, the loss of a network at the start.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from tasks.base import Batch, Data, Params, Task, TaskConfig, TaskFamily
from tasks.batches import split_of, whole_rows
from tasks.datasets.stacked_datasets import mean_over_rows, num_stacked
from tasks.networks.classification import cross_entropy
from tasks.networks.network import MakeNetwork, network_apply, network_init
from tasks.networks.variants import Variants, draw_rows, sample_config


class TokenEmbedding(nn.Module):
    """Tokens [B, L] -> vectors [B, L, D], as a product with one-hot vectors.

    The vocabularies here are small, and the gradient of a product is a product, that of an index a scatter, which XLA's
    CPU backend runs element by element once it is vmapped.
    """

    vocab_size: int
    hidden_size: int

    @nn.compact
    def __call__(self, tokens: Int[Array, "batch length"]) -> Float[Array, "batch length hidden"]:
        init = nn.initializers.normal(self.hidden_size**-0.5)
        table = self.param("embedding", init, (self.vocab_size, self.hidden_size))
        return jax.nn.one_hot(tokens, self.vocab_size, dtype=table.dtype) @ table


def unigram_entropy(tokens: np.ndarray) -> float:
    """Entropy in nats of the frequencies of tokens uint8 [N, L], all but the first of a row."""
    counts = np.bincount(np.asarray(tokens)[:, 1:].ravel())
    frequency = counts[counts > 0] / counts.sum()
    return float(-np.sum(frequency * np.log(frequency)))


def compact_vocabulary(data: Data) -> tuple[Data, bytes]:
    """Renumbers the bytes that occur in any split as 0, 1, ... in their order.

    Returns:
      The renumbered data, and the bytes: token i stands for `alphabet[i]`.
    """
    present = np.zeros(256, bool)
    for leaves in data.values():
        present[np.unique(leaves["tokens"])] = True
    number = np.cumsum(present, dtype=np.int32).astype(np.uint8) - np.uint8(1)
    renumbered = {
        split: dict(leaves) | {"tokens": number[np.asarray(leaves["tokens"])]} for split, leaves in data.items()
    }
    return renumbered, bytes(np.flatnonzero(present).tolist())


def language_family(
    name: str,
    data: Data,
    make_network: MakeNetwork,
    vocab_size: int,
    default_activation: str,
    variants: Variants,
) -> TaskFamily:
    """Predict the next token of the rows of `data`.

    Args:
      name: the family's name.
      data: `{split: {"tokens": uint8[N, L]}}`, rows of consecutive tokens, or such datasets stacked.
      make_network: activation -> flax module from tokens int32 [B, L - 1] to logits [B, L - 1, vocab_size].
      vocab_size: tokens lie in [0, vocab_size).
      default_activation: where the variants name none.
      variants: what differs between tasks.

    Raises:
      ValueError: rows of a single token, or a token outside the vocabulary.
    """
    if data["train"]["tokens"].shape[1] < 2:
        raise ValueError("rows of one token have nothing to predict: use rows of at least 2")
    for split, leaves in data.items():
        if (largest := int(np.max(leaves["tokens"]))) >= vocab_size:
            raise ValueError(f"vocab_size={vocab_size}: the split {split!r} holds the token {largest}")
    num_datasets = num_stacked(data)

    def sample(key: jax.Array) -> TaskConfig:
        return sample_config(key, variants, num_datasets)

    def task(task_config: TaskConfig, data: Data) -> Task:
        example = jax.ShapeDtypeStruct((1, data["train"]["tokens"].shape[1] - 1), "int32")
        apply = network_apply(make_network, variants, default_activation, task_config)

        def metrics(params: Params, batch: Batch) -> dict[str, Float[Array, ""]]:
            tokens = batch["tokens"]
            logits = apply(params, tokens[:, :-1])
            nats = mean_over_rows(jnp.mean(cross_entropy(logits, tokens[:, 1:]), axis=1), task_config, batch)
            hits = (jnp.argmax(logits, axis=-1) == tokens[:, 1:]).astype(jnp.float32)
            return {
                "loss": nats,
                "bits_per_token": nats / np.log(2).item(),
                "accuracy": mean_over_rows(jnp.mean(hits, axis=1), task_config, batch),
            }

        def loss(params: Params, key: jax.Array, batch: Batch) -> Float[Array, ""]:
            del key
            logits = apply(params, batch["tokens"][:, :-1])
            nats = jnp.mean(cross_entropy(logits, batch["tokens"][:, 1:]), axis=1)
            return mean_over_rows(nats, task_config, batch)

        def sample_batch(key: jax.Array, split: str, batch_shape: tuple[int, ...]) -> Batch:
            rows = split_of(data, split)
            index = draw_rows(key, batch_shape, rows["tokens"].shape[0], task_config, num_datasets)
            return tokens_as_int32({name: jnp.asarray(leaf)[index] for name, leaf in rows.items()})

        init = network_init(make_network, example, variants, default_activation, task_config)
        return Task(init, loss, sample_batch, metrics)

    def eval_batch(data: Data, split: str) -> Batch:
        return tokens_as_int32(whole_rows(data, split))

    return TaskFamily(name, data, sample, task, unigram_entropy(data["train"]["tokens"]), eval_batch)


def tokens_as_int32(rows: Batch) -> Batch:
    """The rows with `tokens` as int32."""
    return rows | {"tokens": rows["tokens"].astype(jnp.int32)}
