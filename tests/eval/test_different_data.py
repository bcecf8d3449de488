"""Dirichlet splits of the harness."""

import jax
import numpy as np

from eval.different_data import dirichlet_workers
from tasks.augmentation import with_dirichlet_workers
from tasks.check import check_family
from tests.eval.toy import toy_family

NUM_WORKERS, ALPHA = 6, 0.1
FAMILY = toy_family()


def test_the_workers_of_a_balanced_split_have_all_classes_alike_together():
    counts = np.bincount(FAMILY.data["train"]["label"])
    drawn = dirichlet_workers(FAMILY, ALPHA, NUM_WORKERS, balanced=True).sample(jax.random.key(0))
    drawn = np.asarray(drawn["class_probabilities"])
    np.testing.assert_allclose(drawn.sum(axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(drawn.mean(axis=0), counts / counts.sum(), rtol=0.02)
    # They differ as those of the split itself do.
    plain = with_dirichlet_workers(FAMILY, ALPHA, NUM_WORKERS).sample(jax.random.key(0))["class_probabilities"]
    assert drawn.max(axis=1).mean() > 0.8 * np.asarray(plain).max(axis=1).mean()


def test_batches_of_all_workers_are_those_of_the_split_and_others_of_the_whole():
    split, plain = (make(FAMILY, ALPHA, NUM_WORKERS) for make in (dirichlet_workers, with_dirichlet_workers))
    config, key = split.sample(jax.random.key(1)), jax.random.key(2)
    data = {"train": split.data["train"]}
    batches = (f.task(config, data).sample_batch(key, "train", (NUM_WORKERS, 2, 4)) for f in (split, plain))
    np.testing.assert_array_equal(*(batch["label"] for batch in batches))
    alone = split.task(config, data).sample_batch(key, "train", (5,))
    assert alone["label"].shape == (5,)
    # A comparison checks its family on a batch of its own.
    check_family(split)
