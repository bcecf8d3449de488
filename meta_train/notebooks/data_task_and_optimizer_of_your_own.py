# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Data, task and optimizer of your own
#
# From an array to a judged optimizer, all of it yours: a data set, a family of tasks on it, a learned optimizer with
# two meta-parameters, meta-training with a callback, and a comparison with tuned baselines. `FAST=1` in the
# environment shrinks everything.

# %% tags=["parameters"]
import os
import tempfile

FAST = os.environ.get("FAST") == "1"
META_STEPS = 3 if FAST else 200
NUM_ROUNDS = 10 if FAST else 100
FOLDER = tempfile.mkdtemp()

# %%
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax

import learned_opt
from eval.compare.compare import compare
from eval.compare.contenders import contender
from eval.machine.devices import use_all_cores
from eval.protocol import EvalProtocol
from eval.report.report import write_report
from learned_opt.base import LearnedOptimizer
from meta_train.config import MetaTrainConfig
from meta_train.runs.run import run
from tasks.base import SPLITS, Task, TaskFamily
from tasks.batches import sample_rows, split_of, whole_rows

use_all_cores()

# %% [markdown]
# ## Data
#
# Noisy waves of three shapes (sine, square, saw), with a random phase: which one is it?

# %%
rng = np.random.default_rng(0)


def waves(num_examples, length=32):
    """{"wave": float32[N, length], "label": int32[N]}."""
    label = rng.integers(0, 3, num_examples)
    angle = 2 * np.pi * (np.linspace(0, 2, length) + rng.random((num_examples, 1)))
    shapes = np.stack([np.sin(angle), np.sign(np.sin(angle)), (angle / np.pi) % 2 - 1])
    wave = shapes[label, np.arange(num_examples)] + 0.7 * rng.normal(size=angle.shape)
    return {"wave": wave.astype(np.float32), "label": label.astype(np.int32)}


data = {split: waves(4000 if split == "train" else 1000) for split in SPLITS}
figure, axes = plt.subplots(figsize=(6.5, 2.5))
for label, name in enumerate(("sine", "square", "saw")):
    axes.plot(data["train"]["wave"][data["train"]["label"] == label][0], label=name)
axes.set(xlabel="time")
axes.legend(loc="upper right")
plt.show()

# %% [markdown]
# ## A family of tasks
#
# Four functions: initial parameters, loss, batches, metrics. `sample` draws what differs between the tasks of the
# family; here it is the scale of the input, so that no single learning rate suits all of them.


# %%
def task(config, data):
    """An MLP 32-32-3."""

    def init(key):
        first, last = jax.random.split(key)
        return {
            "w1": jax.random.normal(first, (32, 32)) / 32**0.5,
            "b1": jnp.zeros(32),
            "w2": jax.random.normal(last, (32, 3)) / 32**0.5,
            "b2": jnp.zeros(3),
        }

    def logits(params, wave):
        return jax.nn.relu(config["scale"] * wave @ params["w1"] + params["b1"]) @ params["w2"] + params["b2"]

    def loss(params, key, batch):
        found = logits(params, batch["wave"])
        return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(found, batch["label"]))

    def metrics(params, batch):
        right = jnp.argmax(logits(params, batch["wave"]), axis=-1) == batch["label"]
        return {"loss": loss(params, None, batch), "accuracy": jnp.mean(right.astype(jnp.float32))}

    return Task(init, loss, lambda key, split, shape: sample_rows(key, split_of(data, split), shape), metrics)


def sample(key):
    """The scale of the input, 0.3 to 3."""
    return {"scale": jnp.exp(jax.random.uniform(key, minval=jnp.log(0.3), maxval=jnp.log(3.0)))}


family = TaskFamily("waves", data, sample, task, uninformed_loss=float(np.log(3)), eval_batch=whole_rows)

# %% [markdown]
# ## A learned optimizer
#
# Nesterov's momentum on the server whose rate and decay are learned: what DiLoCo has, with numbers for these tasks.


# %%
def rate_and_decay(rate=0.5, decay=0.5):
    """Server momentum with two meta-parameters."""

    def transform(theta, num_steps=None):
        momentum = jax.nn.sigmoid(theta["decay"])
        return optax.with_extra_args_support(optax.sgd(jnp.exp(theta["rate"]), momentum=momentum, nesterov=True))

    def init(key):
        return {"rate": jnp.log(jnp.float32(rate)), "decay": jax.scipy.special.logit(jnp.float32(decay))}

    return LearnedOptimizer(init, transform, {"architecture": "rate_and_decay", "rate": rate, "decay": decay})


# %% [markdown]
# ## Meta-training
#
# PES over eight tasks a meta-step. The callback is given every row of the metrics.

# %%
NUM_WORKERS, NUM_LOCAL_STEPS, BATCH_SIZE = 4, 4, 16
config = MetaTrainConfig(
    task="waves",
    run_dir=f"{FOLDER}/run",
    local_optimizer="sgd,learning_rate=0.1",
    meta_steps=META_STEPS,
    truncation_length=5 if FAST else 20,
    min_unroll_length=5 if FAST else 20,
    max_unroll_length=10 if FAST else 100,
    meta_learning_rate=0.03,
    sigma=0.1,
    warmup_steps=1,
    num_workers=NUM_WORKERS,
    num_local_steps=NUM_LOCAL_STEPS,
    batch_size=BATCH_SIZE,
)
rows = []
outcome = run(config, lopt=rate_and_decay(), families={"waves": family}, callback=lambda step, row: rows.append(row))

# %%
checkpoint = learned_opt.load_checkpoint(outcome.optimizer_path, architectures={"rate_and_decay": rate_and_decay})
theta = checkpoint.theta
print(f"rate 0.5 -> {np.exp(theta['rate']):.2f}, decay 0.5 -> {jax.nn.sigmoid(theta['decay']):.2f}")
figure, axes = plt.subplots(figsize=(5, 3))
axes.plot([row["step"] for row in rows], [row["meta_loss"] for row in rows])
axes.set(xlabel="meta-step", ylabel="meta-loss (1 = constant guess)")
plt.show()

# %% [markdown]
# ## Against tuned baselines
#
# Every baseline is tuned on the inner-validation split; the learned one, and the same before meta-training, are not.
# The report is one HTML page.

# %%
protocol = EvalProtocol(
    task="waves",
    num_rounds=NUM_ROUNDS,
    eval_every=5,
    num_seeds=2 if FAST else 5,
    tuning="coarse",
    max_extensions=1,
    num_workers=NUM_WORKERS,
    num_local_steps=NUM_LOCAL_STEPS,
    batch_size=BATCH_SIZE,
)
untrained = rate_and_decay()


def local(hparams):
    """The workers' SGD."""
    return checkpoint.local_transform()


mine = contender("learned", protocol, lambda hparams: checkpoint.transform(), {}, local, kind="learned")
before = contender(
    "before training", protocol, lambda hparams: untrained.transform(untrained.init(jax.random.key(0))), {}, local
)
results = compare(
    protocol, [], f"{FOLDER}/eval", baselines=["local_sgd", "diloco"], contenders=[before, mine], family=family
)
print(write_report([f"{FOLDER}/eval"]).name)

# %%
figure, axes = plt.subplots(figsize=(6, 4))
for result in results.contenders:
    axes.semilogy(result.rounds, result.train_loss.mean(axis=0), label=result.name)
    print(f"{result.name:<16} test accuracy {result.final['test']['accuracy'].mean():.3f}")
axes.set(xlabel="round", ylabel="training loss")
axes.legend()
plt.show()

# %% [markdown]
# Two meta-parameters and ten seconds of meta-training bring it to somewhere between tuned Local SGD and tuned DiLoCo,
# which have their workers' rates tuned as well. It is a demonstration of the way, not of an optimizer.
