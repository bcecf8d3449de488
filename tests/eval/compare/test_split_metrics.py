"""Means over whole splits, chunk by chunk."""

import jax
import numpy as np
import pytest

from eval.compare import split_metrics as module
from eval.compare.split_metrics import CHUNK, chunk_size, split_metrics
from tests.eval.toy import toy_family


@pytest.mark.parametrize(
    ("shape", "size"),
    [((8, 8), CHUNK), ((16, 16), CHUNK), ((28, 28), 4096), ((32, 32, 3), 1024), ((4096, 4096), 1)],
)
def test_fewer_examples_at_a_time_where_one_holds_many_numbers(shape, size):
    assert chunk_size({"image": np.zeros((1, *shape), np.uint8), "label": np.zeros(1, np.int32)}) == size


def test_a_token_stands_for_its_embedding():
    assert chunk_size({"text": np.zeros((1, 65), np.uint8)}) == 512
    assert chunk_size({"x": np.zeros((1, 65), np.float32)}) == CHUNK


def test_the_mean_is_that_of_all_examples_whatever_is_left_of_the_last_chunk(monkeypatch):
    family = toy_family()
    config = family.sample(jax.random.key(0))
    task = family.task(config, family.data)
    params = task.init(jax.random.key(1))
    whole = split_metrics(family, task, params, family.data, "train")
    number = len(jax.tree.leaves(family.data["train"])[0])
    for size in (1, 3, number // 2 + 1):
        monkeypatch.setattr(module, "CHUNK", size)
        found = split_metrics(family, task, params, family.data, "train")
        for metric, value in whole.items():
            np.testing.assert_allclose(found[metric], value, rtol=1e-5)
