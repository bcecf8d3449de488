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
# # Does it generalize? A report
#
# An optimizer is meta-trained on some tasks and judged on others. Here a pretrained one meets tasks whose dataset and
# network it has never seen, beside baselines that are tuned on each of them with an equal budget. The sweep is
# resumable, one cell per task family; the report is one page. `FAST=1` in the environment shrinks everything.

# %% tags=["parameters"]
import os
import tempfile

FAST = os.environ.get("FAST") == "1"
FAMILIES = "xor_clusters" if FAST else "xor_clusters,matrix_sensing,score_matching"
NUM_ROUNDS, NUM_SEEDS = (10, 2) if FAST else (100, 3)
CHECKPOINT = "lopt_generalist"
RUN_DIR = os.path.join(tempfile.mkdtemp(), "report")

# %%
import dataclasses
from pathlib import Path

import matplotlib.pyplot as plt

from eval.machine.devices import use_all_cores
from eval.report.report import write_report
from eval.sweep.suite import SUITE_PROTOCOL, suite_family, suite_plan
from eval.sweep.sweep import load_sweep, run_sweep

use_all_cores()

# %% [markdown]
# ## The protocol
#
# Rounds, workers, local steps, seeds and the tuning budget are stated once and hold for everybody. `coarse` tuning is 9
# settings for each baseline before its grid grows; the learned optimizer is not tuned.

# %%
protocol = dataclasses.replace(
    SUITE_PROTOCOL,
    num_rounds=NUM_ROUNDS,
    num_seeds=NUM_SEEDS,
    eval_every=NUM_ROUNDS // 10,
    tuning="coarse",
    max_extensions=0 if FAST else 2,
)
plan = suite_plan(FAMILIES, protocol, [CHECKPOINT])
run_sweep(plan, RUN_DIR, suite_family)

# %% [markdown]
# ## What came out
#
# The same numbers as in `report.html`, which also holds the figures, the protocol in words and what failed.

# %%
write_report([RUN_DIR], Path(RUN_DIR, "report"))
print(sorted(path.name for path in Path(RUN_DIR, "report").iterdir()))

# %%
finished = load_sweep(RUN_DIR).finished
figure, axes = plt.subplots(1, len(finished), figsize=(4 * len(finished), 3.4), squeeze=False)
for axis, (cell, results) in zip(axes[0], finished.items(), strict=True):
    for contender in results.contenders:
        style = {"linewidth": 2, "color": "k"} if contender.name.startswith(CHECKPOINT) else {"alpha": 0.7}
        axis.semilogy(contender.rounds, contender.train_loss.mean(axis=0), label=contender.name, **style)
    axis.set(title=cell, xlabel="rounds", ylabel="training loss")
axes[0][0].legend(fontsize=7)
plt.show()
