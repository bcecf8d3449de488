"""Contenders that claims are measured against, and that are baselines nowhere else; each with the budget of one."""

import math

import optax

from eval.compare.contenders import Contender, over_rounds
from eval.compare.grids import Grid, GridAxis
from eval.compare.rivals.rival import (
    MANY_LOCAL_LRS,
    MOMENTUM,
    SOME_ADAM_LRS,
    SOME_LOCAL_LRS,
    WEIGHT_DECAY,
    Hparams,
    rival,
)
from eval.protocol import EvalProtocol
from eval.schedules import factor
from learned_opt.algorithms.adaptive.qsr import qsr
from learned_opt.algorithms.controls.synchronous import synchronous
from learned_opt.algorithms.diff2 import diff2
from learned_opt.algorithms.gossip.dpsgd import dpsgd
from learned_opt.algorithms.gossip.topology import TOPOLOGIES
from learned_opt.algorithms.local_sgd import local_sgd
from learned_opt.algorithms.server import fedavg

NOISE = 0.1
"""Noise multiplier of a release of gradients in every round: the deviation of the noise on the sum over the workers,
over what a worker's gradient is clipped to."""


def synchronous_sgd(protocol: EvalProtocol) -> Contender:
    """SGD with the mean gradient of all workers at every local step."""
    return rival(
        "synchronous_sgd",
        lambda h, workers, protocol: synchronous(workers, protocol.num_local_steps),
        {"local_lr": MANY_LOCAL_LRS},
    )(protocol)


def local_adamw(protocol: EvalProtocol) -> Contender:
    """AdamW workers and plain averaging: DiLoCo without its outer step."""
    return rival(
        "local_adamw",
        lambda h, workers, protocol: local_sgd(workers, fedavg()),
        {"local_lr": SOME_ADAM_LRS, "weight_decay": WEIGHT_DECAY},
        lambda h: optax.adamw(h["local_lr"], weight_decay=h["weight_decay"]),
    )(protocol)


def dpsgd_without_momentum(protocol: EvalProtocol, topology: str = "ring") -> Contender:
    """D-PSGD with SGD."""
    return rival(
        "dpsgd_without_momentum",
        lambda h, workers, protocol: dpsgd(workers, TOPOLOGIES[topology](protocol.num_workers)),
        {"local_lr": MANY_LOCAL_LRS},
    )(protocol)


def dpsgd_adam(protocol: EvalProtocol) -> Contender:
    """D-PSGD on a ring with an Adam of each worker's own."""
    return rival(
        "dpsgd_adam",
        lambda h, workers, protocol: dpsgd(workers, TOPOLOGIES["ring"](protocol.num_workers)),
        {"local_lr": SOME_ADAM_LRS, "b1": MOMENTUM},
        lambda h: optax.adam(h["local_lr"], b1=h["b1"]),
    )(protocol)


def decaying_qsr(protocol: EvalProtocol, num_steps: int = 200, least: int = 2) -> Contender:
    """QSR under a cosine over `num_steps` local steps; a round takes `least` of them at first, later up to H.

    The protocol has rounds enough for all of them; those after the last step have its rate and move next to nothing.
    """

    def make(h: Hparams, workers: optax.GradientTransformation, protocol: EvalProtocol):
        def rate(step):
            return h["local_lr"] * factor("cosine", step, num_steps)

        return qsr(optax.sgd(rate), rate, h["growth"] * h["local_lr"], least)

    grid: Grid = {"local_lr": SOME_LOCAL_LRS, "growth": GridAxis((0.5, 1.0, 2.0))}
    return rival("decaying_qsr", make, grid, lambda h: optax.identity())(protocol)


def private(protocol: EvalProtocol, restart_every: int = 1) -> Contender:
    """DIFF2 at a fixed budget of privacy, half for gradients and half for differences; with `restart_every` 1, DP-SGD.

    Releases with noise multipliers z_i spend the sum of 1 / z_i^2 (zero-concentrated differential privacy: Bun &
    Steinke 2016, arXiv 1605.02065); the budget is that of NOISE at every round.
    """
    restarts = -(-protocol.num_rounds // restart_every)
    differences = protocol.num_rounds - restarts
    share = 0.5 if differences else 1.0
    on_gradients = NOISE * math.sqrt(restarts / (share * protocol.num_rounds))
    on_differences = NOISE * math.sqrt(differences / (share * protocol.num_rounds))

    def make(h: Hparams, workers: optax.GradientTransformation, protocol: EvalProtocol):
        return diff2(
            over_rounds(optax.sgd(h["lr"]), protocol),
            restart_every,
            gradient_clip=h["clip"],
            difference_clip=h["curvature"],
            gradient_noise=on_gradients * h["clip"] / protocol.num_workers,
            difference_noise=on_differences * h["curvature"] / protocol.num_workers,
        )

    clips, curvatures = GridAxis((0.3, 1.0, 3.0)), GridAxis((1.0, 3.0, 10.0))
    grid: Grid = {"lr": GridAxis((0.1, 0.3, 1.0)), "clip": clips, "curvature": curvatures}
    if not differences:
        grid = {"lr": SOME_LOCAL_LRS, "clip": clips, "curvature": GridAxis((1.0,))}
    return rival("private", make, grid, lambda h: optax.identity())(protocol)
