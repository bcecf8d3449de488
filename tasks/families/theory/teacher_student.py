"""Regression on a random teacher network: a student of another width learns it from noisy answers.

    y = teacher(x) + s z,    loss = mean |student(x) - y|^2 / mean |teacher(x) - its mean|^2

Teacher and student are networks of one hidden layer, tanh and relu; inputs are Gaussian with a power-law spectrum
lambda_i = i^{-alpha}, so that directions differ in how fast they are learned. The setting is the soft committee machine
of Saad & Solla (1995, Phys. Rev. Lett. 74, 4337). Exponent and noise are drawn per task; with little noise losses fall
over decades, with much they end at a floor.

The answers are scaled so that the best constant has a loss of 1 without noise.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from tasks.base import SPLITS, Batch, Data, Params, Task, TaskConfig, TaskFamily
from tasks.batches import sample_rows, split_of, whole_rows

_CALIBRATION_ROWS = 256


def gaussian_rows(num_inputs: int, num_outputs: int, num_rows: int, seed: int = 0) -> Data:
    """`{split: {"x": float32[num_rows, num_inputs], "noise": float32[num_rows, num_outputs]}}`, standard Gaussian."""
    rng = np.random.default_rng(seed)

    def draw(columns):
        return rng.standard_normal((num_rows, columns)).astype(np.float32)

    return {split: {"x": draw(num_inputs), "noise": draw(num_outputs)} for split in SPLITS}


def teacher_student(
    num_inputs: int = 32,
    teacher_size: int = 16,
    student_size: int = 64,
    num_outputs: int = 4,
    exponents: tuple[float, float] = (0.0, 1.5),
    noise: tuple[float, float] = (1e-3, 0.3),
    num_rows: int = 4096,
    name: str = "teacher_student",
) -> TaskFamily:
    """Learn a random teacher network.

    Args:
      num_inputs: dimensions of x.
      teacher_size: hidden units of the teacher.
      student_size: hidden units of the student.
      num_outputs: dimensions of y.
      exponents: range of alpha, drawn uniformly.
      noise: range of s, drawn log-uniformly; relative to the spread of the teacher's answers.
      num_rows: examples of each split.
      name: the family's name.

    Raises:
      ValueError: a size below 1, or a range that is out of order or, for the noise, not positive.
    """
    sizes = {
        "num_inputs": num_inputs,
        "teacher_size": teacher_size,
        "student_size": student_size,
        "num_outputs": num_outputs,
        "num_rows": num_rows,
    }
    for argument, value in sizes.items():
        if value < 1:
            raise ValueError(f"{argument}={value}: use at least 1")
    if not exponents[0] <= exponents[1]:
        raise ValueError(f"exponents={exponents}: use low <= high")
    if not 0 < noise[0] <= noise[1]:
        raise ValueError(f"noise={noise}: use 0 < low <= high")

    def sample(key: jax.Array) -> TaskConfig:
        first_key, second_key, exponent_key, noise_key, row_key = jax.random.split(key, 5)
        exponent = jax.random.uniform(exponent_key, (), jnp.float32, *exponents)
        scales = jnp.arange(1, num_inputs + 1, dtype=jnp.float32) ** (-exponent / 2)
        scales = scales * jax.lax.rsqrt(jnp.mean(jnp.square(scales)))
        teacher = {
            "hidden": jax.random.normal(first_key, (num_inputs, teacher_size)) * num_inputs**-0.5 * 1.5,
            "output": jax.random.normal(second_key, (teacher_size, num_outputs)) * teacher_size**-0.5,
        }
        answers = _teach(teacher, jax.random.normal(row_key, (_CALIBRATION_ROWS, num_inputs)) * scales[None])
        spread = jnp.sqrt(jnp.mean(jnp.sum(jnp.square(answers - jnp.mean(answers, axis=0)[None]), axis=1)))
        low, high = (float(np.log(bound)) for bound in noise)
        return {
            "scales": scales,
            "hidden": teacher["hidden"],
            "output": teacher["output"] / spread,
            "noise": jnp.exp(jax.random.uniform(noise_key, (), jnp.float32, low, high)),
        }

    def task(task_config: TaskConfig, data: Data) -> Task:
        def init(key: jax.Array) -> Params:
            first_key, second_key = jax.random.split(key)
            return {
                "w0": jax.random.normal(first_key, (num_inputs, student_size)) * (2 / num_inputs) ** 0.5,
                "b0": jnp.zeros(student_size),
                "w1": jax.random.normal(second_key, (student_size, num_outputs)) * student_size**-0.5 * 0.1,
                "b1": jnp.zeros(num_outputs),
            }

        def loss(params: Params, key: jax.Array, batch: Batch) -> Float[Array, ""]:
            del key
            x = batch["x"] * task_config["scales"][None]
            answers = _teach(task_config, x)
            answers = answers + task_config["noise"] * num_outputs**-0.5 * batch["noise"]
            hidden = jax.nn.relu(x @ params["w0"] + params["b0"][None])
            return jnp.mean(jnp.sum(jnp.square(hidden @ params["w1"] + params["b1"][None] - answers), axis=1))

        def sample_batch(key: jax.Array, split: str, batch_shape: tuple[int, ...]) -> Batch:
            return sample_rows(key, split_of(data, split), batch_shape)

        def metrics(params: Params, batch: Batch) -> dict[str, Float[Array, ""]]:
            return {"loss": loss(params, jax.random.key(0), batch)}

        return Task(init, loss, sample_batch, metrics)

    return TaskFamily(name, gaussian_rows(num_inputs, num_outputs, num_rows), sample, task, 1.0, whole_rows)


def _teach(teacher, x):
    return jnp.tanh(x @ teacher["hidden"]) @ teacher["output"]
