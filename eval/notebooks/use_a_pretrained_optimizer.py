# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#       format_version: '1.3'
#       jupytext_version: 1.19.6
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Use a pretrained optimizer
#
# A learned optimizer is an ordinary optax transform in a file of a few kilobytes. Here one trains a small network on
# 8x8 Fashion-MNIST with K workers that take H local steps between two communication rounds, beside Local SGD and
# DiLoCo with plausible, untuned settings. Nothing is downloaded. `FAST=1` in the environment shrinks everything.

# %% tags=["parameters"]
import os

FAST = os.environ.get("FAST") == "1"
NUM_ROUNDS = 20 if FAST else 400
NAME = "lagg_fmnist8_k8_h4"

# %%
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import optax

import learned_opt
from learned_opt.algorithms.server import diloco, fedavg
from tasks.suites import make_family

# %% [markdown]
# ## What is in the file
#
# The card says what the optimizer was meta-trained for. LAgg-A reads every worker's update, so it belongs to one number
# of workers.

# %%
checkpoint = learned_opt.load_checkpoint(NAME)
print(checkpoint.lopt.config)
print({name: value for name, value in checkpoint.card.items() if name != "meta_train_config"})
print(sum(leaf.size for leaf in jax.tree.leaves(checkpoint.theta)), "meta-parameters")

# %% [markdown]
# ## Train with it
#
# `local_sgd` takes any optax transform as its server optimizer, so the learned one enters by the same door as the
# others.

# %%
NUM_WORKERS, NUM_LOCAL_STEPS, BATCH_SIZE = 8, 4, 128
local_opt = checkpoint.local_transform()
family = make_family("fmnist8_mlp32")
data = jax.device_put(family.data)


def training_losses(server_opt, seed=0):
    """Mean minibatch loss of every round."""
    algorithm = learned_opt.simulate(learned_opt.local_sgd(local_opt, server_opt), NUM_WORKERS)

    @jax.jit
    def train(data, key):
        task_key, init_key, round_key = jax.random.split(key, 3)
        task = family.task(family.sample(task_key), data)

        def one_round(state, index):
            batch_key, loss_key = jax.random.split(jax.random.fold_in(round_key, index))
            batches = task.sample_batch(batch_key, "train", (NUM_WORKERS, NUM_LOCAL_STEPS, BATCH_SIZE))
            state, info = algorithm.round(task.loss, state, loss_key, batches)
            return state, jnp.mean(info.losses)

        state = algorithm.init(task.init(init_key))
        return jax.lax.scan(one_round, state, jnp.arange(NUM_ROUNDS))[1]

    return train(data, jax.random.key(seed))


curves = {
    "Local SGD": training_losses(fedavg()),
    "DiLoCo (0.7, 0.9)": training_losses(diloco(0.7, 0.9)),
    f"learned ({NAME})": training_losses(learned_opt.load(NAME)),
}

# %%
figure, axes = plt.subplots(figsize=(6, 4))
for name, losses in curves.items():
    axes.plot(losses, label=name)
axes.set(xlabel="communication round", ylabel="training loss", ylim=(0.3, 1.0))
axes.legend()
plt.show()

# %% [markdown]
# These baselines are not tuned; `python -m eval compare fmnist8_k8_h4 --checkpoint lagg_fmnist8_k8_h4` tunes them all
# with an equal budget and reads the test split once.
#
# ## It is an optax transform
#
# So it composes: here the update is clipped.

# %%
clipped = optax.chain(learned_opt.load(NAME), optax.clip_by_global_norm(0.1))
print({"clipped": float(training_losses(clipped)[-1]), "as it is": float(curves[f"learned ({NAME})"][-1])})
