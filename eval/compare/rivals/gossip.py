"""Rivals without a server, on a ring unless a reference says otherwise, as in `dpsgd,topology=one_peer_exponential`.

dpsgd                momentum of each worker's own (Lian et al. 2017, arXiv 1705.09056)
qg_dsgdm, qg_adam    momentum of the models (Lin et al. 2021, arXiv 2102.04761)
consensus_control    averages until near enough (Kong et al. 2021, arXiv 2102.04828)
noloco               DiLoCo in random pairs (Kolehmainen et al. 2025, arXiv 2506.10911)
"""

from collections.abc import Callable
from typing import Any

import optax

from eval.compare.contenders import Contender
from eval.compare.grids import Grid, GridAxis
from eval.compare.rivals.rival import (
    DILOCO_GRID,
    MOMENTUM,
    SOME_ADAM_LRS,
    SOME_LOCAL_LRS,
    Hparams,
    rate_over_rounds,
    rival,
)
from eval.protocol import EvalProtocol
from learned_opt.algorithms.gossip.consensus_control import consensus_control
from learned_opt.algorithms.gossip.dpsgd import dpsgd
from learned_opt.algorithms.gossip.noloco import noloco
from learned_opt.algorithms.gossip.qg_adam import qg_adam
from learned_opt.algorithms.gossip.quasi_global import qg_dsgdm
from learned_opt.algorithms.gossip.topology import TOPOLOGIES
from learned_opt.base import LocalAlgorithm
from learned_opt.names import hint


def _over(
    topology: str, name: str, make: Callable[..., LocalAlgorithm], grid: Grid, local: Any = None
) -> Callable[[EvalProtocol], Contender]:
    """A rival whose `make` gets the mixing matrices after the workers' optimizer."""
    if topology not in TOPOLOGIES:
        raise ValueError(f"topology={topology!r}: {hint(topology, TOPOLOGIES)}")

    def algorithm(h: Hparams, workers: optax.GradientTransformation, protocol: EvalProtocol) -> LocalAlgorithm:
        return make(h, workers, TOPOLOGIES[topology](protocol.num_workers), protocol)

    return rival(name, algorithm, grid) if local is None else rival(name, algorithm, grid, local)


def _dpsgd(protocol: EvalProtocol, topology: str = "ring") -> Contender:
    def workers_of(h: Hparams) -> optax.GradientTransformation:
        return optax.sgd(h["local_lr"], h["momentum"], nesterov=True)

    grid = {"local_lr": SOME_LOCAL_LRS, "momentum": MOMENTUM}
    return _over(topology, "dpsgd", lambda h, workers, weights, protocol: dpsgd(workers, weights), grid, workers_of)(
        protocol
    )


def _qg_dsgdm(protocol: EvalProtocol, topology: str = "ring") -> Contender:
    def make(h, workers, weights, protocol):
        rate, momentum = rate_over_rounds(h, protocol), h["momentum"]
        return qg_dsgdm(rate, weights, beta=momentum, mu=momentum, weight_decay=0.0)

    return _over(topology, "qg_dsgdm", make, {"local_lr": SOME_LOCAL_LRS, "momentum": MOMENTUM})(protocol)


def _qg_adam(protocol: EvalProtocol, topology: str = "ring") -> Contender:
    def make(h, workers, weights, protocol):
        return qg_adam(rate_over_rounds(h, protocol), weights, b1=h["b1"])

    return _over(topology, "qg_adam", make, {"local_lr": SOME_ADAM_LRS, "b1": MOMENTUM})(protocol)


def _consensus_control(protocol: EvalProtocol, topology: str = "ring") -> Contender:
    def make(h, workers, weights, protocol):
        return consensus_control(workers, weights, h["fraction"])

    grid = {"local_lr": SOME_LOCAL_LRS, "fraction": GridAxis((0.1, 0.25, 0.6))}
    return _over(topology, "consensus_control", make, grid)(protocol)


GOSSIP: dict[str, Callable[..., Contender]] = {
    "dpsgd": _dpsgd,
    "qg_dsgdm": _qg_dsgdm,
    "qg_adam": _qg_adam,
    "consensus_control": _consensus_control,
    "noloco": rival("noloco", lambda h, workers, protocol: noloco(workers, h["server_lr"], h["momentum"]), DILOCO_GRID),
}
"""Name -> (protocol, ...) -> contender."""
