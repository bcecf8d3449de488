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
# # K workers and H local steps
#
# Communication is what large-scale training waits for. Local SGD communicates once in H steps: what does that cost,
# what do more workers buy, and how far apart do the workers drift? `FAST=1` in the environment shrinks everything.

# %% tags=["parameters"]
import os

FAST = os.environ.get("FAST") == "1"
NUM_STEPS = 32 if FAST else 512
LOCAL_STEPS = (1, 16) if FAST else (1, 4, 16, 64)
WORKERS = (1, 8) if FAST else (1, 2, 4, 8, 16)
LOCAL_LR = 0.3
BATCH_SIZE = 32

# %%
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax

import learned_opt
from learned_opt.algorithms.measured import measured
from learned_opt.algorithms.server import diloco, fedavg
from tasks.augmentation import with_dirichlet_workers
from tasks.suites import make_family

# %% [markdown]
# One run: the training loss at the start of each round, and the spread of the workers' updates around their mean (the
# consensus distance (1/K) sum_k |Delta_k - mean Delta|^2, relative to |mean Delta|^2).


# %%
def run(family, server_opt, num_workers, num_local_steps, num_steps=NUM_STEPS, seed=0):
    """Losses [rounds] and relative consensus distances [rounds] of local SGD."""

    def measure(worker_updates):
        mean = jax.tree.map(lambda w: jnp.mean(w, axis=0, keepdims=True), worker_updates)
        apart = sum(jnp.sum((w - m) ** 2) for w, m in zip(*map(jax.tree.leaves, (worker_updates, mean)), strict=True))
        size = sum(jnp.sum(m**2) for m in jax.tree.leaves(mean))
        return {"relative_consensus": apart / num_workers / size}

    one_worker = measured(learned_opt.local_sgd(optax.sgd(LOCAL_LR), server_opt), measure)
    algorithm = learned_opt.simulate(one_worker, num_workers)

    @jax.jit
    def train(data, key):
        task_key, init_key, round_key = jax.random.split(key, 3)
        task = family.task(family.sample(task_key), data)

        def one_round(state, index):
            batch_key, loss_key = jax.random.split(jax.random.fold_in(round_key, index))
            batches = task.sample_batch(batch_key, "train", (num_workers, num_local_steps, BATCH_SIZE))
            state, info = algorithm.round(task.loss, state, loss_key, batches)
            return state, (jnp.mean(info.losses[:, 0]), info.diagnostics["relative_consensus"])

        state = algorithm.init(task.init(init_key))
        return jax.lax.scan(one_round, state, jnp.arange(num_steps // num_local_steps))[1]

    losses, spread = train(family.data, jax.random.key(seed))
    return np.asarray(losses), np.asarray(spread)


family = make_family("fmnist8_mlp32")

# %% [markdown]
# ## H: fewer rounds for the same gradients
#
# Against rounds, many local steps look wonderful; against gradients, they cost something. Both axes belong in a report.

# %%
figure, axes = plt.subplots(1, 3, figsize=(13, 3.6))
for num_local_steps in LOCAL_STEPS:
    losses, spread = run(family, fedavg(), 8, num_local_steps)
    rounds = np.arange(len(losses))
    axes[0].plot(rounds, losses, label=f"H={num_local_steps}")
    axes[1].plot(rounds * num_local_steps, losses)
    axes[2].semilogy(rounds * num_local_steps, spread)
axes[0].set(xlabel="rounds", ylabel="training loss", xscale="symlog", ylim=(0.4, 2.4))
axes[1].set(xlabel="local steps", ylabel="training loss", ylim=(0.4, 2.4))
axes[2].set(xlabel="local steps", ylabel="relative consensus distance")
axes[0].legend()
plt.show()

# %% [markdown]
# ## K: what averaging buys
#
# More workers mean less noise in the averaged update, not more progress: momentum on the server (DiLoCo) turns the
# quieter direction into larger steps.

# %%
figure, axes = plt.subplots(figsize=(6, 4))
for server, style in ((fedavg(), "o-"), (diloco(0.7, 0.9), "s--")):
    final = [run(family, server, num_workers, 4)[0][-8:].mean() for num_workers in WORKERS]
    axes.plot(WORKERS, final, style, label="Local SGD" if style == "o-" else "DiLoCo (0.7, 0.9)")
axes.set(xlabel="workers K", ylabel="training loss at the end", xscale="log", xticks=WORKERS, xticklabels=WORKERS)
axes.legend()
plt.show()

# %% [markdown]
# ## Workers with different data
#
# `with_dirichlet_workers` gives every worker its own mix of classes. Small alpha: each worker sees a class or two,
# and the updates disagree.

# %%
figure, axes = plt.subplots(1, 2, figsize=(9, 3.6))
for alpha in (100.0, 1.0, 0.1):
    losses, spread = run(with_dirichlet_workers(family, alpha, 8), fedavg(), 8, 16)
    axes[0].plot(losses, label=f"alpha={alpha:g}")
    axes[1].semilogy(spread)
axes[0].set(xlabel="rounds", ylabel="training loss (each worker on its own data)")
axes[1].set(xlabel="rounds", ylabel="relative consensus distance")
axes[0].legend()
plt.show()
