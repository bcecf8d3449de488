"""Rivals from learned_opt.algorithms as tuned baselines: communication-efficient training beyond Local SGD and DiLoCo.

    fedavgm fedyogi                        servers (Hsu et al. 2019; Reddi et al. 2021)
    post_local_sgd muloco                  other local steps (Lin et al. 2020; Therien et al. 2025)
    quantized_diloco sparse_loco           fewer bytes (Douillard et al. 2025; Sarfi et al. 2025)
    streaming_diloco                       a fragment of the model a round (Douillard et al. 2025)
    fedprox scaffold feddyn                made for different data on the workers
    noloco                                 no server: DiLoCo in random pairs (Kolehmainen et al. 2025)
    snoo lookahead                         controls: outer momentum without drift of the workers

Grids have as many settings as those of eval/compare/baselines.py, whose table has them too.
"""

from collections.abc import Callable, Mapping
from typing import Any

import optax

from eval.compare.contenders import Contender, over_local_steps, over_rounds
from eval.compare.grids import Grid, GridAxis, budgeted, log_spaced
from eval.protocol import EvalProtocol
from eval.schedules import factor
from learned_opt.algorithms.compression.quantized_diloco import quantized_diloco
from learned_opt.algorithms.compression.sparse_loco import sparse_loco
from learned_opt.algorithms.controls.lookahead import lookahead
from learned_opt.algorithms.controls.snoo import snoo
from learned_opt.algorithms.corrections.feddyn import feddyn
from learned_opt.algorithms.corrections.fedprox import fedprox
from learned_opt.algorithms.corrections.scaffold import scaffold
from learned_opt.algorithms.fragments.streaming_diloco import streaming_diloco
from learned_opt.algorithms.gossip.noloco import noloco
from learned_opt.algorithms.local_sgd import local_sgd
from learned_opt.algorithms.muloco import muloco
from learned_opt.algorithms.post_local_sgd import post_local_sgd
from learned_opt.algorithms.server import diloco
from learned_opt.algorithms.servers.fedavgm import fedavgm
from learned_opt.algorithms.servers.fedyogi import fedyogi
from learned_opt.base import LocalAlgorithm

Hparams = Mapping[str, Any]
MakeAlgorithm = Callable[[Hparams, optax.GradientTransformation, EvalProtocol], LocalAlgorithm]
"""(hyper-parameters, the workers' optimizer under the protocol's schedule, protocol) -> algorithm of one worker."""

LOCAL_LR = GridAxis((0.25, 0.5, 1.0))
ADAM_LR = GridAxis((0.001, 0.003, 0.01))
SERVER_LR = GridAxis((0.3, 0.7, 1.4))
MOMENTUM = GridAxis((0.5, 0.8, 0.9), decay=True)
MANY_LOCAL_LRS = GridAxis(log_spaced(0.03, 3.0, 27))
SOME_LOCAL_LRS = GridAxis(log_spaced(0.03, 3.0, 9))
MU = GridAxis((0.01, 0.1, 1.0))
DILOCO_GRID: Grid = {"local_lr": LOCAL_LR, "server_lr": SERVER_LR, "momentum": MOMENTUM}


def _rival(
    name: str,
    make: MakeAlgorithm,
    grid: Grid,
    local: Callable[[Any], optax.GradientTransformation] = optax.sgd,
) -> Callable[[EvalProtocol], Contender]:
    def baseline(protocol: EvalProtocol) -> Contender:
        def algorithm(hparams: Hparams) -> LocalAlgorithm:
            return make(hparams, over_local_steps(local(hparams["local_lr"]), protocol), protocol)

        return Contender(name, algorithm, budgeted(grid, protocol.tuning), kind="baseline")

    return baseline


def _fedyogi(h: Hparams, workers: optax.GradientTransformation, protocol: EvalProtocol) -> LocalAlgorithm:
    # Its step keeps its size when the pseudo-gradients shrink.
    return local_sgd(workers, over_rounds(fedyogi(h["server_lr"], tau=h["tau"]), protocol))


def _muloco(h: Hparams, workers: optax.GradientTransformation, protocol: EvalProtocol) -> LocalAlgorithm:
    del workers
    num_steps = protocol.num_rounds * protocol.num_local_steps

    def rate(step):
        return h["local_lr"] * factor(protocol.schedule, step, num_steps)

    return muloco(rate, server_learning_rate=h["server_lr"], server_momentum=h["momentum"])


RIVALS: dict[str, Callable[[EvalProtocol], Contender]] = {
    "fedavgm": _rival(
        "fedavgm",
        lambda h, workers, protocol: local_sgd(workers, fedavgm(h["server_lr"], h["momentum"])),
        DILOCO_GRID,
    ),
    "fedyogi": _rival(
        "fedyogi",
        _fedyogi,
        {"local_lr": LOCAL_LR, "server_lr": GridAxis((0.01, 0.03, 0.1)), "tau": GridAxis((1e-5, 1e-4, 1e-3))},
    ),
    "post_local_sgd": _rival(
        "post_local_sgd",
        lambda h, workers, protocol: post_local_sgd(workers, protocol.num_rounds // 2),
        {"local_lr": MANY_LOCAL_LRS},
    ),
    "muloco": _rival(
        "muloco", _muloco, {"local_lr": GridAxis((0.003, 0.01, 0.03)), "server_lr": SERVER_LR, "momentum": MOMENTUM}
    ),
    "quantized_diloco": _rival(
        "quantized_diloco",
        lambda h, workers, protocol: quantized_diloco(workers, learning_rate=h["server_lr"], momentum=h["momentum"]),
        DILOCO_GRID,
    ),
    "sparse_loco": _rival(
        "sparse_loco",
        lambda h, workers, protocol: sparse_loco(workers, h["server_lr"], decay=h["decay"]),
        {"local_lr": ADAM_LR, "server_lr": SERVER_LR, "decay": GridAxis((0.9, 0.95, 0.975), decay=True)},
        optax.adamw,
    ),
    "streaming_diloco": _rival(
        "streaming_diloco",
        lambda h, workers, protocol: streaming_diloco(workers, 2, diloco(h["server_lr"], h["momentum"])),
        DILOCO_GRID,
    ),
    "fedprox": _rival(
        "fedprox", lambda h, workers, protocol: fedprox(workers, h["mu"]), {"local_lr": SOME_LOCAL_LRS, "mu": MU}
    ),
    "scaffold": _rival("scaffold", lambda h, workers, protocol: scaffold(workers), {"local_lr": MANY_LOCAL_LRS}),
    "feddyn": _rival(
        "feddyn", lambda h, workers, protocol: feddyn(workers, h["mu"]), {"local_lr": SOME_LOCAL_LRS, "mu": MU}
    ),
    "noloco": _rival(
        "noloco",
        lambda h, workers, protocol: noloco(workers, h["server_lr"], h["momentum"]),
        DILOCO_GRID,
    ),
    "snoo": _rival(
        "snoo",
        lambda h, workers, protocol: snoo(workers, protocol.num_local_steps, h["server_lr"], h["momentum"]),
        DILOCO_GRID,
    ),
    "lookahead": _rival(
        "lookahead",
        lambda h, workers, protocol: lookahead(workers, protocol.num_local_steps, h["slow_lr"]),
        {"local_lr": SOME_LOCAL_LRS, "slow_lr": GridAxis((0.25, 0.5, 0.75))},
    ),
}
"""Name -> protocol -> contender."""
