import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tasks.base import SPLITS
from tasks.datasets.stacked_datasets import num_stacked, stack_datasets
from tasks.families.images.image_mlp import image_mlp
from tasks.families.sequences.text_rnn import RNN
from tasks.networks.language_model import language_family
from tasks.networks.variants import PLAIN
from tests.tasks.generated_data import random_images, random_tokens


def test_rows_interleave_and_are_cut_to_the_shortest():
    first, second = random_images((4, 4, 1), n=6), random_images((4, 4, 1), n=5, seed=1)
    stacked = stack_datasets([first, second])
    assert num_stacked(stacked) == 2 and num_stacked(first) == 1
    for split in SPLITS:
        for d, data in enumerate((first, second)):
            own = stacked[split]["dataset"] == d
            np.testing.assert_array_equal(own, np.arange(10) % 2 == d)
            for leaf in ("image", "label"):
                np.testing.assert_array_equal(stacked[split][leaf][own], data[split][leaf][:5])


def test_a_task_sees_and_counts_its_own_dataset_only():
    datasets = [random_images((4, 4, 1), n=8, seed=seed) for seed in range(3)]
    family = image_mlp(stack_datasets(datasets), (5,))
    keys = jax.random.split(jax.random.key(0), 30)
    drawn = jax.jit(jax.vmap(lambda key: family.sample(key)["dataset"]))(keys)
    assert set(drawn.tolist()) == {0, 1, 2}
    single = image_mlp(datasets[0], (5,))
    params = jax.jit(single.task({}, datasets[0]).init)(keys[0])

    single_metrics = jax.jit(single.task({}, datasets[0]).metrics)

    @jax.jit
    def of_one(config, data):
        task = family.task(config, data)
        return task.sample_batch(keys[1], "train", (40,)), task.metrics(params, family.eval_batch(data, "test"))

    for d, data in enumerate(datasets):
        batch, metrics = of_one({"dataset": jnp.int32(d)}, family.data)
        assert (batch["dataset"] == d).all()
        drawn = np.round(np.asarray(batch["image"]) * 255).astype(np.uint8)
        assert {row.tobytes() for row in drawn} <= {row.tobytes() for row in data["train"]["image"]}
        expected = single_metrics(params, single.eval_batch(data, "test"))
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), metrics, expected)


def test_text_stacks_too():
    data = stack_datasets([random_tokens(5, 7), random_tokens(5, 3)])
    family = language_family("text", data, lambda _: RNN(7, 4, 1, "gru"), 7, "tanh", PLAIN)
    task = family.task({"dataset": jnp.int32(1)}, data)
    batch = jax.jit(lambda key: task.sample_batch(key, "train", (50,)))(jax.random.key(0))
    assert (batch["tokens"] < 3).all() and batch["tokens"].dtype == jnp.int32


def test_datasets_that_do_not_match():
    with pytest.raises(ValueError, match="differ"):
        stack_datasets([random_images((4, 4, 1)), random_images((4, 4, 3))])
    with pytest.raises(ValueError, match="at least one"):
        stack_datasets([])
