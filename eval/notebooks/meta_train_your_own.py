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
# # Meta-train your own optimizer and watch it learn
#
# One command meta-trains LAgg-A on 8x8 Fashion-MNIST in about a minute on two CPU cores: persistent evolution
# strategies on eight tasks at a time, checkpoints resumable to the bit. This notebook runs it, reads the run folder it
# leaves, and compares the optimizer before, during and after. `FAST=1` in the environment shrinks everything.

# %% tags=["parameters"]
import os
import tempfile

FAST = os.environ.get("FAST") == "1"
META_STEPS = 6 if FAST else 400
NUM_ROUNDS = 20 if FAST else 300
RUN_DIR = os.path.join(tempfile.mkdtemp(), "mine")

# %%
import json
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import optax

import learned_opt
from tasks.suites import make_family

# %%
command = [sys.executable, "-m", "meta_train", "demo", "--run-dir", RUN_DIR, "--eval-protocol", "None"]
command += ["--meta-steps", str(META_STEPS), "--checkpoint-every", "25"]
command += ["--export-every", str(META_STEPS // (2 if FAST else 4))]
command += ["--max-unroll-length", "20", "--warmup-steps", "1"] if FAST else []
done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=Path(learned_opt.__file__).parents[1])
assert done.returncode == 0, done.stderr
print(done.stdout.replace(RUN_DIR, "RUN_DIR"))

# %% [markdown]
# ## What it recorded
#
# `metrics.jsonl` has a row for every meta-step. The meta-loss is the held-out loss of the inner training, divided by
# that of a constant guess; it is noisy because every step samples other stretches of other tasks.

# %%
rows = [json.loads(line) for line in Path(RUN_DIR, "metrics.jsonl").read_text().splitlines()]
figure, axes = plt.subplots(1, 2, figsize=(9, 3.5))
axes[0].plot([row["meta_loss"] for row in rows])
axes[0].set(xlabel="meta-step", ylabel="meta-loss (1 = constant guess)")
axes[1].semilogy([row["gradient_norm"] for row in rows])
axes[1].set(xlabel="meta-step", ylabel="norm of the meta-gradient")
plt.show()

# %% [markdown]
# ## The optimizer, before and after
#
# At first the learned correction is zero, so the untrained optimizer is DiLoCo. The run keeps the optimizers it passed
# on its way in `exports`.

# %%
NUM_WORKERS, NUM_LOCAL_STEPS, BATCH_SIZE = 8, 4, 32
family = make_family("fmnist8_mlp32")
data = jax.device_put(family.data)


def training_losses(server_opt, seed=1):
    """Mean minibatch loss of every round."""
    algorithm = learned_opt.simulate(learned_opt.local_sgd(optax.sgd(0.5), server_opt), NUM_WORKERS)

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


files = sorted(Path(RUN_DIR, "exports").glob("*.safetensors"))
lopt = learned_opt.load_checkpoint(files[-1]).lopt
curves = {"untrained": training_losses(lopt.transform(lopt.init(jax.random.key(0))))}
curves |= {f"meta-step {int(file.stem.split('_')[1])}": training_losses(learned_opt.load(file)) for file in files}

# %%
figure, axes = plt.subplots(figsize=(6, 4))
for index, (name, losses) in enumerate(curves.items()):
    smooth = jnp.convolve(losses, jnp.ones(5) / 5, mode="valid")
    axes.plot(smooth, label=name, color=plt.colormaps["viridis"](index / len(curves)))
axes.set(xlabel="communication round", ylabel="training loss", ylim=(0.3, 1.2))
axes.legend()
plt.show()

# %% [markdown]
# `learned_opt.load(f"{RUN_DIR}/optimizer.safetensors")` is the result; `python -m meta_train resume RUN_DIR` would
# continue an interrupted run, and `python -m eval compare` judges it against tuned baselines.
