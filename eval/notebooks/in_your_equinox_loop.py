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
# # In your own equinox loop
#
# An equinox model is a tree with arrays and functions in it; an optax transform is given the arrays alone. With that
# one filter, which every optax optimizer needs, a learned optimizer goes where AdamW went. Needs `pip install equinox`.
# `FAST=1` in the environment shrinks everything.

# %% tags=["parameters"]
import os

FAST = os.environ.get("FAST") == "1"
NUM_STEPS = 10 if FAST else 400
BATCH_SIZE = 64

# %%
import equinox as eqx
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax

import learned_opt
from tasks.datasets.load import load_dataset

data = load_dataset("fashion_mnist", 8)
images = data["train"]["image"].transpose(0, 3, 1, 2) / np.float32(255)  # [N, channel, height, width]
test_images = data["test"]["image"].transpose(0, 3, 1, 2) / np.float32(255)
labels, test_labels = data["train"]["label"], data["test"]["label"]


# %%
class ConvNet(eqx.Module):
    """Two convolutions and a linear layer."""

    layers: list

    def __init__(self, key):
        first, second, last = jax.random.split(key, 3)
        self.layers = [
            eqx.nn.Conv2d(1, 8, 3, padding=1, key=first),
            jax.nn.relu,
            eqx.nn.Conv2d(8, 8, 3, stride=2, padding=1, key=second),
            jax.nn.relu,
            jnp.ravel,
            eqx.nn.Linear(128, 10, key=last),
        ]

    def __call__(self, image):
        for layer in self.layers:
            image = layer(image)
        return image


@eqx.filter_value_and_grad
def loss_and_gradient(model, image, label):
    return optax.softmax_cross_entropy_with_integer_labels(jax.vmap(model)(image), label).mean()


def train(tx, seed=0):
    """Training losses, and the accuracy on the test split at the end."""
    tx = optax.with_extra_args_support(tx)  # AdamW takes no value=
    model = ConvNet(jax.random.key(seed))
    opt_state = tx.init(eqx.filter(model, eqx.is_inexact_array))

    @eqx.filter_jit
    def train_step(model, opt_state, image, label):
        loss, gradient = loss_and_gradient(model, image, label)
        params = eqx.filter(model, eqx.is_inexact_array)
        updates, opt_state = tx.update(gradient, opt_state, params, value=loss)
        return eqx.apply_updates(model, updates), opt_state, loss

    draw = np.random.default_rng(seed)
    losses = []
    for _ in range(NUM_STEPS):
        rows = draw.integers(0, len(images), BATCH_SIZE)
        model, opt_state, loss = train_step(model, opt_state, images[rows], labels[rows])
        losses.append(loss)
    predicted = jnp.argmax(jax.vmap(model)(test_images), axis=-1)
    return np.array(losses), float(jnp.mean(predicted == test_labels))


# %%
found = {f"AdamW, {rate:g}": train(optax.adamw(rate)) for rate in (1e-3, 3e-3, 1e-2, 3e-2)}
found["adafac_generalist"] = train(learned_opt.load("adafac_generalist"))
found["lopt_generalist, H = 4"] = train(learned_opt.load_local_updates("lopt_generalist", num_local_steps=4))

# %%
figure, axes = plt.subplots(figsize=(6.5, 4))
for name, (losses, _) in found.items():
    smooth = np.convolve(losses, np.ones(20) / 20, mode="valid" if NUM_STEPS > 20 else "same")
    axes.plot(smooth, label=name, linestyle="-" if "generalist" in name else "--")
axes.set(xlabel="step", ylabel="training loss, mean of 20 steps", ylim=(0.3, 1.5))
axes.legend()
plt.show()

# %%
for name, (losses, accuracy) in found.items():
    last = losses[-(NUM_STEPS // 5) :].mean()
    print(f"{name:<24}  loss of the last fifth {last:.3f}  test accuracy {accuracy:.3f}")
