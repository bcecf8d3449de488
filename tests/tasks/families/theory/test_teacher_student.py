"""A student that is the teacher has no loss but the noise; the scale of the answers; noise and spectrum as asked."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tasks.families.theory.teacher_student import gaussian_rows, teacher_student


@pytest.fixture(scope="module")
def family():
    return teacher_student(6, 3, 3, 2, exponents=(1.0, 1.0), noise=(0.2, 0.2), num_rows=512)


def zeros(task):
    return jax.tree.map(jnp.zeros_like, task.init(jax.random.key(0)))


def test_zero_answers_have_the_spread_of_the_teacher_as_loss(family):
    losses = []
    for seed in range(8):
        config = family.sample(jax.random.key(seed))
        task = family.task(config, family.data)
        losses.append(float(task.metrics(zeros(task), family.eval_batch(family.data, "train"))["loss"]))
    # tanh is odd and the inputs symmetric, so the teacher's mean is near zero; the noise adds 0.2^2. 256 rows of
    # calibration and 512 of data leave about 10 %.
    np.testing.assert_allclose(np.mean(losses), 1.04, rtol=0.1)


def test_noise_is_the_floor_of_the_loss(family):
    """Answers of the teacher itself: what remains is s^2 mean |z|^2 / outputs."""
    config = family.sample(jax.random.key(1))
    batch = family.eval_batch(family.data, "train")
    task, clean = (family.task({**config, "noise": noise}, family.data) for noise in (config["noise"], jnp.float32(0)))
    params = task.init(jax.random.key(2))
    # The noise is independent of x: the losses differ by its square and by a small product with the errors.
    difference = task.metrics(params, batch)["loss"] - clean.metrics(params, batch)["loss"]
    np.testing.assert_allclose(config["noise"], 0.2, rtol=1e-6)
    np.testing.assert_allclose(difference, 0.04, atol=0.04)


def test_spectrum_of_the_inputs(family):
    scales = family.sample(jax.random.key(0))["scales"]
    np.testing.assert_allclose(jnp.mean(jnp.square(scales)), 1, rtol=1e-6)
    np.testing.assert_allclose(scales[0] / scales, np.sqrt(np.arange(1, 7)), rtol=1e-5)


def test_rows_differ_between_splits_and_come_back():
    first, again = gaussian_rows(3, 2, 5), gaussian_rows(3, 2, 5)
    np.testing.assert_array_equal(first["train"]["x"], again["train"]["x"])
    assert not np.array_equal(first["train"]["x"], first["test"]["x"])


@pytest.mark.parametrize(
    ("argument", "value"),
    [("num_inputs", 0), ("student_size", -1), ("num_rows", 0), ("exponents", (1.0, 0.0)), ("noise", (0.0, 1.0))],
)
def test_odd_arguments_are_named(argument, value):
    with pytest.raises(ValueError, match=argument):
        teacher_student(**{argument: value})
