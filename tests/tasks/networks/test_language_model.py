import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tasks.base import SPLITS
from tasks.families.sequences.text_rnn import RNN
from tasks.networks.language_model import compact_vocabulary, language_family, unigram_entropy
from tasks.networks.variants import PLAIN
from tests.tasks.generated_data import random_tokens


def constant_guess(logits):
    """A network that predicts the same whatever it reads."""

    class Constant(RNN):
        def __call__(self, tokens):
            return jnp.broadcast_to(logits, (*tokens.shape, len(logits)))

    return Constant(len(logits), 1, 1, "gru")


def test_unigram_entropy_is_the_least_loss_of_a_constant_guess():
    data = random_tokens(4, 3)
    data["train"]["tokens"][:, 1:3] = 0
    frequency = np.bincount(data["train"]["tokens"][:, 1:].ravel()) / (20 * 3)

    def constant_loss(probability):
        model = constant_guess(jnp.log(jnp.asarray(probability, jnp.float32)))
        family = language_family("constant", data, lambda _: model, 3, "tanh", PLAIN)
        batch = family.eval_batch(data, "train")
        metrics = jax.jit(lambda batch: family.task({}, data).metrics({}, batch))(batch)
        np.testing.assert_allclose(metrics["bits_per_token"], metrics["loss"] / np.log(2), rtol=1e-6)
        np.testing.assert_allclose(metrics["accuracy"], frequency[np.argmax(probability)], rtol=1e-6)
        return metrics["loss"]

    least = unigram_entropy(data["train"]["tokens"])
    np.testing.assert_allclose(constant_loss(frequency), least, rtol=1e-6)
    assert constant_loss(frequency * np.array([1.05, 1, 0.9])) > 0 and constant_loss(np.full(3, 1 / 3)) > least + 0.01


def test_targets_are_the_inputs_shifted_by_one():
    """A network that always predicts "one more" is right on counting rows and wrong on constant ones."""
    rows = (np.arange(6)[:, None] + np.arange(5)) % 7
    data = {split: {"tokens": rows.astype(np.uint8)} for split in SPLITS}

    class Successor(RNN):
        def __call__(self, tokens):
            return 30 * jax.nn.one_hot((tokens + 1) % 7, 7)

    family = language_family("count", data, lambda _: Successor(7, 1, 1, "gru"), 7, "tanh", PLAIN)
    task = family.task({}, data)
    batch = jax.jit(lambda key: task.sample_batch(key, "train", (9,)))(jax.random.key(0))
    loss = jax.jit(task.loss)
    assert batch["tokens"].shape == (9, 5) and loss({}, jax.random.key(0), batch) < 1e-6
    still = {"tokens": jnp.full((2, 5), 3, jnp.int32)}
    np.testing.assert_allclose(loss({}, jax.random.key(0), still), 30, rtol=1e-3)


def test_compact_vocabulary_keeps_the_text():
    rows = np.frombuffer(b"hello world\nBYE", np.uint8).reshape(3, 5)
    data = {"train": {"tokens": rows[:2]}, "test": {"tokens": rows[2:]}}
    compact, alphabet = compact_vocabulary(data)
    assert alphabet == bytes(sorted(set(b"hello world\nBYE")))
    for split, leaves in data.items():
        tokens = compact[split]["tokens"]
        assert tokens.dtype == np.uint8 and tokens.max() < len(alphabet)
        assert bytes(alphabet[t] for t in tokens.ravel()) == leaves["tokens"].tobytes()


def test_compact_vocabulary_of_all_bytes_changes_nothing():
    data = {"train": {"tokens": np.arange(256, dtype=np.uint8).reshape(4, 64)}}
    compact, alphabet = compact_vocabulary(data)
    np.testing.assert_array_equal(compact["train"]["tokens"], data["train"]["tokens"])
    assert len(alphabet) == 256


def test_bad_tokens():
    with pytest.raises(ValueError, match="vocab_size=5: the split 'train' holds the token"):
        language_family("text", random_tokens(4, 9), lambda _: RNN(5, 2, 1, "gru"), 5, "tanh", PLAIN)
    with pytest.raises(ValueError, match="at least 2"):
        language_family("text", random_tokens(1, 9), lambda _: RNN(9, 2, 1, "gru"), 9, "tanh", PLAIN)
