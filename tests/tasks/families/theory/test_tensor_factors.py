import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tasks.families.theory.tensor_factors import entries, positions, tensor_factors
from tests.tasks.generated_data import num_params


def test_entries_are_those_of_the_tensor():
    factors = [np.random.default_rng(i).standard_normal((4, 2)).astype(np.float32) for i in range(3)]
    entry = positions(4)["train"]["entry"]
    found = entries([jnp.asarray(f) for f in factors], jnp.asarray(entry))
    expected = [sum(np.prod([f[i, k] for f, i in zip(factors, row, strict=True)]) for k in range(2)) for row in entry]
    np.testing.assert_allclose(found, np.asarray(expected), rtol=1e-5, atol=1e-6)


def test_every_entry_is_in_one_split_and_half_of_them_train():
    splits = positions(6)
    together = np.concatenate([rows["entry"] for rows in splits.values()])
    assert len(together) == 216 == len(np.unique(together, axis=0)) and len(splits["train"]["entry"]) == 108
    assert {len(rows["entry"]) for split, rows in splits.items() if split != "train"} == {36}


def test_the_truth_is_reached_and_zero_is_the_guess():
    """Loss 0 at the true factors padded with zeros; mean square 1 over the whole tensor at zero."""
    family = tensor_factors(6, rank=2, num_factors=3)
    config = family.sample(jax.random.key(0))
    task = family.task(config, family.data)
    padded = np.concatenate([config["factors"], np.zeros((3, 6, 1), np.float32)], axis=2)
    batch = family.eval_batch(family.data, "train")
    truth = {f"axis_{i}": jnp.asarray(padded[i]) for i in range(3)}
    assert task.metrics(truth, batch)["loss"] < 1e-10
    every = {"entry": jnp.concatenate([jnp.asarray(rows["entry"]) for rows in family.data.values()])}
    zeros = jax.tree.map(jnp.zeros_like, truth)
    np.testing.assert_allclose(task.loss(zeros, jax.random.key(0), every), family.uninformed_loss, rtol=1e-5)
    assert num_params(family) == 3 * 6 * 3


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"size": 1}, "size=1"),
        ({"rank": 6}, "num_factors=5"),
        ({"init_scale": 0.0}, "init_scale=0"),
        ({"rank": 0}, "rank=0"),
    ],
)
def test_bad_arguments(arguments, says):
    with pytest.raises(ValueError, match=says):
        tensor_factors(**arguments)
