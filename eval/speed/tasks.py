"""Cost of 16 vmapped tasks of the 8x8 MLP, per task, against a hand-written loop of one: `python -m eval.speed.tasks`.

Both take the same number of SGD steps and draw their batches inside the scan. The hand-written loop knows nothing of
families: two matrix products, `jax.random.randint` and an index. They run in turns within one process, so that other
work on the machine hardly changes the ratio.
"""

import json
import statistics
import time

import jax
import jax.numpy as jnp

from tasks.suites import make_family

NUM_TASKS = 16
NUM_STEPS = 200
BATCH_SIZE = 128
LEARNING_RATE = 0.1
REPEATS = 9


def vmapped_tasks(family):
    """Trains tasks of the family side by side: (data, keys [tasks]) -> final minibatch losses [tasks]."""

    def train(key, data):
        config_key, init_key, batch_key = jax.random.split(key, 3)
        task = family.task(family.sample(config_key), data)

        def step(params, index):
            loss_key, draw_key = jax.random.split(jax.random.fold_in(batch_key, index))
            batch = task.sample_batch(draw_key, "train", (BATCH_SIZE,))
            loss, gradient = jax.value_and_grad(task.loss)(params, loss_key, batch)
            return jax.tree.map(lambda p, g: p - LEARNING_RATE * g, params, gradient), loss

        return jax.lax.scan(step, task.init(init_key), jnp.arange(NUM_STEPS))[1][-1]

    return jax.jit(jax.vmap(train, in_axes=(0, None)))


def hand_written_loop(hidden_size: int, num_classes: int):
    """Trains one network: (images, labels, key) -> final minibatch loss []."""

    def train(images, labels, key):
        num_inputs = images[0].size
        w1_key, w2_key, batch_key = jax.random.split(key, 3)
        params = (
            jax.random.normal(w1_key, (num_inputs, hidden_size)) * num_inputs**-0.5,
            jnp.zeros((1, hidden_size)),
            jax.random.normal(w2_key, (hidden_size, num_classes)) * hidden_size**-0.5,
            jnp.zeros((1, num_classes)),
        )

        def loss_of(params, x, y):
            w1, b1, w2, b2 = params
            logits = jax.nn.relu(x @ w1 + b1) @ w2 + b2
            return -jnp.mean(jnp.take_along_axis(jax.nn.log_softmax(logits), y[:, None], axis=1))

        def step(params, index):
            rows = jax.random.randint(jax.random.fold_in(batch_key, index), (BATCH_SIZE,), 0, images.shape[0])
            x = images[rows].reshape(BATCH_SIZE, -1).astype(jnp.float32) / 255
            loss, gradient = jax.value_and_grad(loss_of)(params, x, labels[rows])
            return jax.tree.map(lambda p, g: p - LEARNING_RATE * g, params, gradient), loss

        return jax.lax.scan(step, params, jnp.arange(NUM_STEPS))[1][-1]

    return jax.jit(train)


def benchmark_tasks() -> dict[str, float]:
    """Microseconds of a step per task, both ways, and their ratio."""
    family = make_family("fmnist8_mlp32")
    data = jax.device_put(family.data)
    keys = jax.random.split(jax.random.key(0), NUM_TASKS)
    together, alone = vmapped_tasks(family), hand_written_loop(32, 10)
    images, labels = data["train"]["image"], data["train"]["label"]

    def seconds(fn, *arguments):
        start = time.perf_counter()
        jax.block_until_ready(fn(*arguments))
        return time.perf_counter() - start

    def pair():
        return seconds(together, keys, data) / NUM_TASKS, seconds(alone, images, labels, keys[0])

    pair()
    pairs = [pair() for _ in range(REPEATS)]
    return {
        "vmapped_us_per_step": 1e6 / NUM_STEPS * statistics.median(v for v, _ in pairs),
        "hand_written_us_per_step": 1e6 / NUM_STEPS * statistics.median(h for _, h in pairs),
        "ratio": statistics.median(v / h for v, h in pairs),
    }


if __name__ == "__main__":
    print(json.dumps(benchmark_tasks()))
