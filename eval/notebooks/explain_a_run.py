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
# # Why did that run go well, and that one badly?
#
# A loss says that a run failed, not why. Diagnostics measure what is behind it: curvature, gradients, features, how far
# the workers agree. Here they explain one good and one bad run of learned optimizers: `lagg_any` at home, on an MLP on
# 8x8 Fashion-MNIST, and the specialist `lagg_fmnist8_k8_h4` on a problem that it was never trained on. All of them are
# listed by `python -m eval diagnostics`; with `--diagnostics`, every comparison draws the same curves in its report.

# %% tags=["parameters"]
import os

FAST = os.environ.get("FAST") == "1"
NUM_ROUNDS, NUM_SEEDS = (20, 1) if FAST else (200, 2)

# %%
import tempfile

import matplotlib.pyplot as plt
import numpy as np

from eval.compare.compare import compare
from eval.diagnostics.curve_numbers import CURVE_NUMBERS
from eval.machine.devices import use_all_cores
from eval.protocol import EvalProtocol

use_all_cores()

# %% [markdown]
# A comparison with one learned optimizer and no baseline. Its *anchor* takes part by itself: the hand-made step that it
# corrects, with the same workers and nothing learned. Snapshots of the parameters are kept along the training, and
# measured in a second pass when it is over, at ten points of the curve.


# %%
def explained(task, checkpoint, diagnostics, num_rounds, num_points=20):
    """Results of a learned optimizer and its anchor, by name."""
    protocol = EvalProtocol(
        task=task,
        num_rounds=num_rounds,
        num_seeds=NUM_SEEDS,
        batch_size=32,
        eval_every=num_rounds // num_points,
        diagnostics=diagnostics,
    )
    with tempfile.TemporaryDirectory() as folder:
        return {c.name: c for c in compare(protocol, [checkpoint], folder, baselines=()).contenders}


def draw(contenders, panels, columns=4):
    """One panel for the loss and one for every diagnostic of {name: title}."""
    rows = -(-(1 + len(panels)) // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(3.1 * columns, 2.5 * rows), squeeze=False)
    for axis in axes.flat[1 + len(panels) :]:
        axis.set_visible(False)
    for name, contender in contenders.items():
        style = {"color": "C0", "linestyle": "--"} if name.endswith("_anchor") else {"color": "k", "zorder": 3}
        curves = {"training loss": contender.train_loss}
        curves |= {title: contender.diagnostics[diagnostic] for diagnostic, title in panels.items()}
        for axis, (title, values) in zip(axes.flat, curves.items(), strict=False):
            mean = np.mean(values, axis=0)
            measured = np.isfinite(mean)
            axis.plot(contender.rounds[measured], mean[measured], marker=".", label=name, **style)
            axis.set_title(title, fontsize=9)
            axis.tick_params(labelsize=7)
    axes.flat[0].legend(fontsize=7)
    return figure, axes.flat


def table(contenders, panels):
    """First and last measured value of every curve, and its early peak or growth where theory asks for one."""
    for name, contender in contenders.items():
        print(f"{name}: training loss {contender.train_loss[:, -1].mean():.3f} at the end")
        for diagnostic in panels:
            mean = np.mean(contender.diagnostics[diagnostic], axis=0)
            first, *_, last = mean[np.isfinite(mean)]
            number = CURVE_NUMBERS.get(diagnostic)
            more = (
                f"   {number.name} {number.number(contender.rounds, contender.diagnostics[diagnostic]):.3g}"
                if number
                else ""
            )
            print(f"    {diagnostic:<22} {first:8.3g} -> {last:8.3g}{more}")


# %% [markdown]
# ## The good run
#
# 200 rounds on the MLP, 8 workers, 4 local steps. Black: the learned optimizer; dashed: its anchor alone.

# %%
GOOD = {
    "restricted_secant": "RSI: gradient along the way back",
    "sharpness": "sharpness",
    "fisher_trace": "trace of the Fisher",
    "example_coherence": "coherence of 64 examples",
    "relative_consensus": "spread of the workers / mean",
    "ntk_drift": "turn of the tangent kernel",
    "nc1": "NC1: spread within / between classes",
}
good = explained("fmnist8_mlp32", "lagg_any", tuple(GOOD), NUM_ROUNDS)
draw(good, GOOD)[0].tight_layout()
plt.show()

# %%
table(good, GOOD)

# %% [markdown]
# How to read it:
#
# - **No wrong turns.** The restricted secant inequality is positive at every point, for both: minus the gradient always
#   leads towards where the run will end. Nothing has to be undone; what differs is speed.
# - **Noise rules.** The coherence of 64 examples stays near 1/64, which is what orthogonal gradients have, and the
#   workers' spread is a multiple of their mean and grows. In this regime one round's mean is mostly noise, so what an
#   optimizer does with past rounds and with the workers' disagreement decides.
# - **Flatter and richer.** The learned optimizer ends where the sharpness and the trace of the Fisher information are
#   below the anchor's. Meanwhile its tangent kernel has turned further, and the classes have drawn closer
#   together (NC1): it has learned features, not only fitted a readout to those of the start.
# - The early peak of the Fisher trace is nobody's explosion: the two have about the same.

# %% [markdown]
# ## The bad run
#
# The specialist was meta-trained on that MLP, with workers that take steps of SGD at 0.5, and nothing else. Here it
# recovers a matrix of rank two from linear measurements. It is gone after the second round, although its anchor,
# DiLoCo's step with the same workers, solves the problem.

# %%
BAD = {
    "distance_from_initialisation": "distance from the start",
    "sharpness": "sharpness",
    "sharpness_times_rate": "workers' rate x sharpness",
}
bad = explained("matrix_sensing", "lagg_fmnist8_k8_h4", tuple(BAD), 40, num_points=40)
figure, axes = draw(bad, BAD)
axes[0].set_yscale("log")
axes[3].axhline(2, color="0.5", linestyle=":")
figure.tight_layout()
plt.show()
for name, contender in bad.items():
    seen = "".join(f", {title} {contender.diagnostics[d][:, 0].mean():.2f}" for d, title in BAD.items())
    print(f"{name}, after round 1: training loss {contender.train_loss[:, 0].mean():.3g}{seen}")
    print(f"    training losses of rounds 2 to 4: {contender.train_loss[:, 1:4].mean(axis=0)}")

# %% [markdown]
# How to read it:
#
# - The curvature of a product of factors grows with the factors. Gradient steps of size eta are stable while eta times
#   the sharpness is below 2, the dotted line.
# - The **anchor** stays close to that line for the whole run, at the edge of stability, and its loss falls by orders of
#   magnitude.
# - The **learned** step is longer. In one round it goes twice as far from the start as the anchor, to a place where the
#   product is far above 2. From there not even the workers' plain gradient steps are stable: the next round multiplies
#   the error at every local step, and the loss overflows.
#
# So it is no bug and no bad luck: a step whose size was learned on one problem carries no guarantee about the curvature
# of another, and `sharpness_times_rate` shows it one round before the loss does.
