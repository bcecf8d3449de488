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
# # In your own flax loop
#
# You have a flax `nnx` model and a training step. What changes when the optimizer is a learned one? One line: the
# transform. Here AdamW with four learning rates stands beside two pretrained optimizers that nobody tuned.
# `FAST=1` in the environment shrinks everything.

# %% tags=["parameters"]
import os

FAST = os.environ.get("FAST") == "1"
NUM_STEPS = 20 if FAST else 600
BATCH_SIZE = 64

# %%
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax
from flax import nnx

import learned_opt
from tasks.datasets.load import load_dataset

# %% [markdown]
# Any arrays do. These are embedded here: Fashion-MNIST at 8x8, 48,000 images to train on.

# %%
data = load_dataset("fashion_mnist", 8)
images, labels = data["train"]["image"].reshape(-1, 64) / np.float32(255), data["train"]["label"]
test_images, test_labels = data["test"]["image"].reshape(-1, 64) / np.float32(255), data["test"]["label"]

# %% [markdown]
# ## The loop
#
# It is yours but for `value=loss`, which `nnx.Optimizer` hands on to the transform: the optimizers that watch the loss
# read it, AdamW ignores it.


# %%
def loss_of(model, image, label):
    return optax.softmax_cross_entropy_with_integer_labels(model(image), label).mean()


@nnx.jit
def train_step(model, optimizer, image, label):
    loss, gradient = nnx.value_and_grad(loss_of)(model, image, label)
    optimizer.update(model, gradient, value=loss)
    return loss


def train(tx, seed=0):
    """Training losses, and the accuracy on the test split at the end."""
    rngs = nnx.Rngs(seed)
    model = nnx.Sequential(nnx.Linear(64, 64, rngs=rngs), nnx.relu, nnx.Linear(64, 10, rngs=rngs))
    optimizer = nnx.Optimizer(model, tx, wrt=nnx.Param)
    draw = np.random.default_rng(seed)
    losses = []
    for _ in range(NUM_STEPS):
        rows = draw.integers(0, len(images), BATCH_SIZE)
        losses.append(train_step(model, optimizer, images[rows], labels[rows]))
    accuracy = jnp.mean(jnp.argmax(model(test_images), axis=-1) == test_labels)
    return np.array(losses), float(accuracy)


# %% [markdown]
# ## Who takes part
#
# `adafac_generalist` reads gradients, like AdamW. `lopt_generalist` is a server optimizer of local SGD: on one machine
# it takes H local steps with the optimizer it was trained with, then a learned step. `load_local_updates` makes one
# transform of both, which is fed gradients.

# %%
contenders = {f"AdamW, {rate:g}": optax.adamw(rate) for rate in (1e-3, 3e-3, 1e-2, 3e-2)}
contenders["adafac_generalist"] = learned_opt.load("adafac_generalist")
contenders["lopt_generalist, H = 4"] = learned_opt.load_local_updates("lopt_generalist", num_local_steps=4)
found = {name: train(tx) for name, tx in contenders.items()}

# %%
figure, axes = plt.subplots(figsize=(6.5, 4))
for name, (losses, _) in found.items():
    smooth = np.convolve(losses, np.ones(20) / 20, mode="valid")
    axes.plot(smooth, label=name, linestyle="-" if "generalist" in name else "--")
axes.set(xlabel="step", ylabel="training loss, mean of 20 steps", ylim=(0.3, 1.5))
axes.legend()
plt.show()

# %%
for name, (losses, accuracy) in found.items():
    last = losses[-(NUM_STEPS // 5) :].mean()
    print(f"{name:<24}  loss of the last fifth {last:.3f}  test accuracy {accuracy:.3f}")

# %% [markdown]
# One network and one seed: a demonstration, no evidence. `python -m eval compare` has the protocol for that, with tuned
# baselines, several seeds and a test split that is read once.
#
# ## What you may still choose
#
# The learned step has its size already; `learning_rate` is a factor on it, or a schedule. `load("lopt_generalist")`
# alone would be the server's half: fed gradients, it says so and refuses.

# %%
schedule = optax.cosine_decay_schedule(1.0, NUM_STEPS)
tx = learned_opt.load("adafac_generalist", learning_rate=schedule, weight_decay=1e-4)
print(f"adafac_generalist, cosine: test accuracy {train(tx)[1]:.3f}")
try:
    train(learned_opt.load("lopt_generalist"))
except ValueError as error:
    print(error)
