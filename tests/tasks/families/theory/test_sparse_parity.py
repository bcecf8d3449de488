import itertools

import jax
import numpy as np
import pytest

from tasks.base import SPLITS
from tasks.families.theory.sparse_parity import distinct_examples, sparse_parity


def test_examples_are_distinct_bits_labelled_by_the_first_ones():
    data = distinct_examples(4, 20, 300)
    rows = np.concatenate([data[split]["bits"] for split in SPLITS])
    assert rows.shape == (1800, 20) and set(rows.ravel()) == {-1, 1}
    assert len(np.unique(rows, axis=0)) == 1800
    labels = np.concatenate([data[split]["label"] for split in SPLITS])
    odd_number_of_minus_ones = (rows[:, :4] == -1).sum(-1) % 2 == 1
    np.testing.assert_array_equal(labels, np.where(odd_number_of_minus_ones, -1, 1))


def test_no_smaller_subset_of_the_bits_tells_the_label():
    """Correlation of the label with the parity of each subset: 1 for the right one, 0 +- 1/sqrt(N) for the others."""
    data = distinct_examples(4, 20, 20_000)["train"]
    for size in (1, 2, 3, 4):
        for subset in itertools.combinations(range(4), size):
            correlation = (data["bits"][:, subset].prod(-1) * data["label"]).mean()
            assert correlation == 1 if size == 4 else abs(correlation) < 4 / 20_000**0.5


def test_loss_and_accuracy_are_the_written_out_formulas():
    family = sparse_parity(2, 14, (5, 3), 64)
    task = family.task({}, family.data)
    params = jax.jit(task.init)(jax.random.key(0))
    batch = family.eval_batch(family.data, "train")
    h = np.asarray(batch["bits"], np.float64)
    for i, name in enumerate(sorted(params)):
        h = h @ np.asarray(params[name]["kernel"], np.float64)
        h = np.maximum(h, 0) if i < 2 else h[:, 0]
    margin = h * np.asarray(batch["label"])
    metrics = jax.jit(task.metrics)(params, batch)
    np.testing.assert_allclose(metrics["loss"], np.log1p(np.exp(-margin)).mean(), rtol=1e-5)
    np.testing.assert_allclose(metrics["accuracy"], (margin > 0).mean())
    np.testing.assert_allclose(task.loss(params, jax.random.key(0), batch), metrics["loss"], rtol=1e-6)


def test_number_of_parameters():
    family = sparse_parity()
    params = jax.eval_shape(family.task({}, family.data).init, jax.random.key(0))
    assert sum(p.size for p in jax.tree.leaves(params)) == 30 * 64 + 64 * 64 + 64


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"num_parity_bits": 3}, "num_parity_bits=3"),
        ({"hidden_sizes": (0,)}, r"\(0,\)"),
        ({"num_noise_bits": 4}, "8 bits and 512 training examples"),
        ({"num_noise_bits": 60}, "64 bits"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        sparse_parity(**arguments)
