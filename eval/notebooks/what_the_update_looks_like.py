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
# # What the learned update looks like
#
# A per-parameter MLP is a function of a few dozen numbers: the pseudo-gradient, its running moments, the parameter, the
# workers' own updates, the time. Its response can be drawn by feeding it made-up rounds. All parameters of a tensor are
# probed at once: each of the 1,024 entries of one vector meets its own history.

# %% tags=["parameters"]
import os

FAST = os.environ.get("FAST") == "1"
NAME = "lagg_fmnist8_k8_h4"
WARM_UP = 2 if FAST else 30

# %%
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

import learned_opt

checkpoint = learned_opt.load_checkpoint(NAME)
tx = checkpoint.lopt.transform(jax.tree.map(jnp.asarray, checkpoint.theta))
NUM_WORKERS = checkpoint.lopt.config["num_workers"]
SIZE, SCALE = 1024, 0.01
rng = np.random.default_rng(0)

# %% [markdown]
# `respond` shows the optimizer a history of pseudo-gradients and then a last one, and returns the update, in units of
# the root mean square of the last one. Every quantity a feature is normalised by is taken over the whole tensor, so the
# probes are mixed with ordinary entries: half of the vector always sees unit-variance noise.


# %%
@jax.jit
def respond(history, last, disagreement, params):
    """[rounds, n] past and [n] last mean pseudo-gradients, [n] spread of the workers around the last -> update [n]."""
    directions = jnp.linspace(-1, 1, NUM_WORKERS)[:, None]
    directions = directions / jnp.sqrt(jnp.mean(directions**2))

    def step(state, mean):
        _, state = tx.update(mean, state, params, worker_updates=jnp.broadcast_to(mean, (NUM_WORKERS, SIZE)))
        return state, None

    state, _ = jax.lax.scan(step, tx.init(params), history)
    workers = last[None] + directions * disagreement[None]
    update, _ = tx.update(last, state, params, worker_updates=workers)
    return update


def probe(history, last, disagreement):
    """The second half of every vector is replaced by noise."""
    half = SIZE // 2
    background = rng.normal(size=(WARM_UP + 1, half))
    history = np.concatenate([history[:, :half], background[:-1]], axis=1)
    last = np.concatenate([last[:half], background[-1]])
    disagreement = np.concatenate([disagreement[:half], np.full(half, 1.0)])
    params = 0.1 * rng.normal(size=SIZE)
    arrays = [jnp.asarray(x, jnp.float32) for x in (SCALE * history, SCALE * last, SCALE * disagreement, params)]
    return np.asarray(respond(*arrays))[:half] / SCALE


grid = np.linspace(-3, 3, SIZE)
grid[: SIZE // 2] = np.linspace(-3, 3, SIZE // 2)
probed = grid[: SIZE // 2]
noise = rng.normal(size=(WARM_UP, SIZE))
ones = np.ones(SIZE)

# %% [markdown]
# ## The pseudo-gradient
#
# With an indifferent history, how does the step grow with the last pseudo-gradient? Local SGD would be the diagonal
# -g, DiLoCo a steeper line; the learned optimizer bends.

# %%
figure, axes = plt.subplots(figsize=(5, 3.8))
axes.plot(probed, probe(0 * noise, grid, ones), ".", markersize=2, label="learned")
axes.plot(probed, -probed, "k:", label="Local SGD, -g")
axes.set(xlabel="last pseudo-gradient (in units of its RMS)", ylabel="update", title="response to g")
axes.legend()
plt.show()

# %% [markdown]
# ## Momentum
#
# The same last pseudo-gradient (one), after a history that pointed along it, or against it.

# %%
figure, axes = plt.subplots(figsize=(5, 3.8))
steady = np.broadcast_to(grid, (WARM_UP, SIZE))
axes.plot(probed, probe(steady, ones, ones), ".", markersize=2)
axes.axhline(-1, color="k", linestyle=":")
axes.set(xlabel="past pseudo-gradients", title="response to momentum, g = 1")
plt.show()

# %% [markdown]
# ## Disagreement of the workers
#
# And the same mean, from workers that agree (left end) or pull in all directions. A mean alone cannot tell these apart;
# this is what LAgg-A gains from reading every worker.

# %%
figure, axes = plt.subplots(figsize=(5, 3.8))
axes.plot(np.abs(probed), probe(np.broadcast_to(ones, (WARM_UP, SIZE)), ones, np.abs(grid)), ".", markersize=2)
axes.set(xlabel="spread of the workers around the mean", title="response to disagreement, g = 1")
plt.show()
