"""Rivals from learned_opt.algorithms as tuned baselines: communication-efficient training beyond Local SGD and DiLoCo.

    fedavgm fedyogi                        servers (Hsu et al. 2019; Reddi et al. 2021)
    post_local_sgd muloco palsgd           other local steps (Lin 2020; Therien et al. 2025; Naganuma et al. 2025)
    qsr norm_test consensus_steps          rounds of a length of their own (Gu 2024; Lau 2024; Kong et al. 2021)
    loss_weighted_averaging                workers count by their loss (Riedl et al. 2023)
    local_sgd_without_late_workers, coded_data_parallel, sequential_coded_data_parallel
                                           who does not wait for late workers
    diff2 fzoos                            differences of gradients; no gradients (Murata 2023; Shu et al. 2023)
    synchronous snoo lookahead gpa         controls: no drift of the workers

With them those of compressed.py, gossip.py and heterogeneous.py. Grids have as many settings as those of
eval/compare/baselines.py, whose table has them too.
"""

from collections.abc import Callable

import optax

from eval.compare.contenders import Contender, over_local_steps, over_rounds
from eval.compare.grids import GridAxis
from eval.compare.rivals.compressed import COMPRESSED
from eval.compare.rivals.gossip import GOSSIP
from eval.compare.rivals.heterogeneous import HETEROGENEOUS
from eval.compare.rivals.rival import (
    ADAM_LR,
    DILOCO_GRID,
    LOCAL_LR,
    MANY_LOCAL_LRS,
    MANY_LRS,
    MOMENTUM,
    SERVER_LR,
    SOME_ADAM_LRS,
    SOME_LOCAL_LRS,
    WEIGHT_DECAY,
    Hparams,
    averaging_over_rounds,
    rate_over_local_steps,
    rival,
)
from eval.protocol import EvalProtocol
from learned_opt.algorithms.adaptive.consensus_steps import consensus_steps
from learned_opt.algorithms.adaptive.norm_test import norm_test
from learned_opt.algorithms.adaptive.qsr import qsr
from learned_opt.algorithms.controls.gpa import gpa
from learned_opt.algorithms.controls.lookahead import lookahead
from learned_opt.algorithms.controls.snoo import snoo
from learned_opt.algorithms.controls.synchronous import synchronous
from learned_opt.algorithms.diff2 import diff2
from learned_opt.algorithms.local_sgd import local_sgd
from learned_opt.algorithms.loss_weighted_averaging import loss_weighted_averaging
from learned_opt.algorithms.muloco import muloco
from learned_opt.algorithms.palsgd import palsgd
from learned_opt.algorithms.post_local_sgd import post_local_sgd
from learned_opt.algorithms.server import diloco
from learned_opt.algorithms.servers.fedavgm import fedavgm
from learned_opt.algorithms.servers.fedyogi import fedyogi
from learned_opt.algorithms.stragglers.gradient_coding import coded_data_parallel, cyclic
from learned_opt.algorithms.stragglers.late_workers import local_sgd_without_late_workers
from learned_opt.algorithms.stragglers.sequential_coding import sequential_coded_data_parallel
from learned_opt.algorithms.zeroth_order.fzoos import fzoos
from learned_opt.base import LocalAlgorithm


def _fedyogi(h: Hparams, workers: optax.GradientTransformation, protocol: EvalProtocol) -> LocalAlgorithm:
    # Its step keeps its size when the pseudo-gradients shrink.
    return local_sgd(workers, over_rounds(fedyogi(h["server_lr"], tau=h["tau"]), protocol))


def _muloco(h: Hparams, workers: optax.GradientTransformation, protocol: EvalProtocol) -> LocalAlgorithm:
    rate = rate_over_local_steps(h, protocol)
    return muloco(rate, server_learning_rate=h["server_lr"], server_momentum=h["momentum"])


def _palsgd(h: Hparams, workers: optax.GradientTransformation, protocol: EvalProtocol) -> LocalAlgorithm:
    return palsgd(
        lambda rate: over_local_steps(optax.sgd(rate), protocol),
        h["local_lr"],
        probability=0.1,
        alpha=h["alpha"],
        server_opt=diloco(h["server_lr"]),
    )


def _qsr(h: Hparams, workers: optax.GradientTransformation, protocol: EvalProtocol) -> LocalAlgorithm:
    least = max(1, protocol.num_local_steps // 4)
    return qsr(workers, h["local_lr"], h["growth"] * h["local_lr"], least, averaging_over_rounds(protocol))


def _norm_test(h: Hparams, workers: optax.GradientTransformation, protocol: EvalProtocol) -> LocalAlgorithm:
    return norm_test(workers, h["tolerance"], server_opt=averaging_over_rounds(protocol))


def _consensus_steps(h: Hparams, workers: optax.GradientTransformation, protocol: EvalProtocol) -> LocalAlgorithm:
    return consensus_steps(workers, h["fraction"], averaging_over_rounds(protocol))


def _coded(h: Hparams, workers: optax.GradientTransformation, protocol: EvalProtocol) -> LocalAlgorithm:
    code = cyclic(protocol.num_workers, min(1, protocol.num_workers - 1))
    return coded_data_parallel(over_rounds(optax.sgd(h["lr"]), protocol), code)


def _sequentially_coded(h: Hparams, workers: optax.GradientTransformation, protocol: EvalProtocol) -> LocalAlgorithm:
    code = cyclic(protocol.num_workers, min(1, protocol.num_workers - 1))
    return sequential_coded_data_parallel(over_rounds(optax.sgd(h["lr"]), protocol), code)


def _fzoos(h: Hparams, workers: optax.GradientTransformation, protocol: EvalProtocol) -> LocalAlgorithm:
    return fzoos(
        workers,
        num_features=128,
        num_points=32,
        num_around=2,
        radius=h["radius"],
        lengthscale=h["lengthscale"],
    )


def _no_workers(h: Hparams) -> optax.GradientTransformation:
    """For what steps once a round, or makes its workers itself."""
    return optax.identity()


RIVALS: dict[str, Callable[..., Contender]] = {
    "fedavgm": rival(
        "fedavgm",
        lambda h, workers, protocol: local_sgd(workers, fedavgm(h["server_lr"], h["momentum"])),
        DILOCO_GRID,
    ),
    "fedyogi": rival(
        "fedyogi",
        _fedyogi,
        {"local_lr": LOCAL_LR, "server_lr": GridAxis((0.01, 0.03, 0.1)), "tau": GridAxis((1e-5, 1e-4, 1e-3))},
    ),
    "post_local_sgd": rival(
        "post_local_sgd",
        lambda h, workers, protocol: post_local_sgd(workers, protocol.num_rounds // 2),
        {"local_lr": MANY_LOCAL_LRS},
    ),
    "muloco": rival(
        "muloco",
        _muloco,
        {"local_lr": GridAxis((0.003, 0.01, 0.03)), "server_lr": SERVER_LR, "momentum": MOMENTUM},
        _no_workers,
    ),
    "palsgd": rival(
        "palsgd",
        _palsgd,
        {"local_lr": LOCAL_LR, "server_lr": SERVER_LR, "alpha": GridAxis((0.1, 0.5, 2.0))},
        _no_workers,
    ),
    "qsr": rival("qsr", _qsr, {"local_lr": SOME_LOCAL_LRS, "growth": GridAxis((0.5, 1.0, 2.0))}, of_steps=False),
    "norm_test": rival(
        "norm_test",
        _norm_test,
        {"local_lr": SOME_LOCAL_LRS, "tolerance": GridAxis((0.5, 1.0, 2.0))},
        of_steps=False,
    ),
    "consensus_steps": rival(
        "consensus_steps",
        _consensus_steps,
        {"local_lr": SOME_LOCAL_LRS, "fraction": GridAxis((0.5, 1.0, 2.0))},
        of_steps=False,
    ),
    "loss_weighted_averaging": rival(
        "loss_weighted_averaging",
        lambda h, workers, protocol: loss_weighted_averaging(workers, h["sharpness"]),
        {"local_lr": SOME_LOCAL_LRS, "sharpness": GridAxis((0.3, 1.0, 3.0))},
    ),
    "local_sgd_without_late_workers": rival(
        "local_sgd_without_late_workers",
        lambda h, workers, protocol: local_sgd_without_late_workers(workers),
        {"local_lr": MANY_LOCAL_LRS},
    ),
    "coded_data_parallel": rival("coded_data_parallel", _coded, {"lr": MANY_LRS}, _no_workers),
    "sequential_coded_data_parallel": rival(
        "sequential_coded_data_parallel", _sequentially_coded, {"lr": MANY_LRS}, _no_workers
    ),
    "diff2": rival(
        "diff2",
        lambda h, workers, protocol: diff2(over_rounds(optax.sgd(h["lr"]), protocol)),
        {"lr": MANY_LRS},
        _no_workers,
    ),
    "fzoos": rival(
        "fzoos",
        _fzoos,
        {"local_lr": ADAM_LR, "radius": GridAxis((0.01, 0.03, 0.1)), "lengthscale": GridAxis((0.3, 1.0, 3.0))},
        lambda h: optax.adam(h["local_lr"]),
    ),
    **COMPRESSED,
    **HETEROGENEOUS,
    **GOSSIP,
    "synchronous": rival(
        "synchronous",
        lambda h, workers, protocol: synchronous(workers, protocol.num_local_steps),
        {"local_lr": SOME_ADAM_LRS, "weight_decay": WEIGHT_DECAY},
        lambda h: optax.adamw(h["local_lr"], weight_decay=h["weight_decay"]),
    ),
    "snoo": rival(
        "snoo",
        lambda h, workers, protocol: snoo(workers, protocol.num_local_steps, h["server_lr"], h["momentum"]),
        DILOCO_GRID,
    ),
    "lookahead": rival(
        "lookahead",
        lambda h, workers, protocol: lookahead(workers, protocol.num_local_steps, h["slow_lr"]),
        {"local_lr": SOME_LOCAL_LRS, "slow_lr": GridAxis((0.25, 0.5, 0.75))},
    ),
    "gpa": rival(
        "gpa",
        lambda h, workers, protocol: gpa(workers, protocol.num_local_steps, interpolation=h["interpolation"]),
        {"local_lr": SOME_ADAM_LRS, "interpolation": GridAxis((0.5, 0.7, 0.9), decay=True)},
        lambda h: optax.adamw(h["local_lr"]),
    ),
}
"""Name -> (protocol, ...) -> contender."""
