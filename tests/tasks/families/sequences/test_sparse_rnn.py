import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tasks.families.sequences.sparse_rnn import masked, sparse_rnn
from tasks.families.sequences.text_rnn import text_rnn
from tests.tasks.generated_data import noisy, random_tokens

VOCABULARY = 11


def start(cell, density=0.33):
    data = random_tokens(6, VOCABULARY)
    family = sparse_rnn(data, VOCABULARY, cell, 5, density=density)
    config = family.sample(jax.random.key(0))
    task = family.task(config, data)
    return family, config, task, jax.jit(task.init)(jax.random.key(1))


def test_masks_are_binary_with_the_stated_density_and_new_in_each_task():
    family = sparse_rnn(random_tokens(6, VOCABULARY), VOCABULARY, hidden_size=64)
    masks = family.sample(jax.random.key(0))
    assert {name: mask.shape for name, mask in masks.items()} == {"input_0": (64, 256), "recurrent_0": (64, 256)}
    for mask in masks.values():
        assert set(np.unique(mask)) == {0, 1}
        # The standard error over 16,384 entries is 0.004.
        np.testing.assert_allclose(mask.mean(), 0.33, atol=0.016)
    assert (masks["input_0"] != masks["recurrent_0"]).any()
    assert (family.sample(jax.random.key(1))["input_0"] != masks["input_0"]).any()


@pytest.mark.parametrize("cell", ["lstm", pytest.param("gru", marks=pytest.mark.slow)])
def test_loss_is_that_of_the_dense_network_with_weights_at_zero(cell):
    family, config, task, params = start(cell)
    dense = text_rnn(family.data, VOCABULARY, cell, 5)
    batch = family.eval_batch(family.data, "test")
    for name, mask in config.items():
        matrix = params[name]["kernel"] if name.startswith("input") else params[name]
        np.testing.assert_array_equal(np.asarray(matrix)[np.asarray(mask) == 0], 0)
    params = noisy(params, 0.5)
    by_hand = {**params}
    for name, mask in config.items():
        if name.startswith("input"):
            by_hand[name] = {**params[name], "kernel": np.where(np.asarray(mask) == 1, params[name]["kernel"], 0)}
        else:
            by_hand[name] = np.where(np.asarray(mask) == 1, params[name], 0)
    expected = jax.jit(dense.task({}, family.data).metrics)(by_hand, batch)
    found = jax.jit(task.metrics)(params, batch)
    np.testing.assert_allclose([found[name] for name in expected], list(expected.values()), rtol=1e-6)
    np.testing.assert_allclose(found["perplexity"], np.exp(expected["loss"]), rtol=1e-5)
    gradient = jax.jit(jax.grad(task.loss))(params, jax.random.key(0), batch)
    recurrent = np.asarray(gradient["recurrent_0"])
    np.testing.assert_array_equal(recurrent[np.asarray(config["recurrent_0"]) == 0], 0)
    assert (recurrent != 0).any()


def test_full_density_is_the_dense_network():
    _, config, _, params = start("lstm", density=1.0)
    kept = masked(params, config)
    jax.tree.map(np.testing.assert_array_equal, kept, params)
    assert all((mask == 1).all() for mask in config.values()) and jnp.ndim(config["input_0"]) == 2


@pytest.mark.parametrize("arguments", [{"density": 0.0}, {"density": 1.5}, {"hidden_size": 0}])
def test_bad_arguments(arguments):
    ((name, value),) = arguments.items()
    with pytest.raises(ValueError, match=f"{name}={value}"):
        sparse_rnn(random_tokens(6, VOCABULARY), VOCABULARY, **arguments)
