"""Everyone who takes part, as a `Contender`: six tuned baselines and what checkpoints hold.

Every baseline has a grid of GRID_SIZE settings and the same rule for its growth (eval/grids.py).
Learning rates are constant, for the baselines and for the local steps under a learned server
optimizer.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from eval.data_parallel import data_parallel
from eval.grids import Axis, Grid, log_spaced
from eval.protocol import EvalProtocol
from learned_opt.aggregation import diloco, fedadam, fedavg, slowmo
from learned_opt.checkpoint import load_checkpoint
from learned_opt.local_sgd import LocalAlgorithm, local_sgd

GRID_SIZE = 27
"""Settings of every baseline's grid."""

LOCAL_SGD, DILOCO = "local_sgd", "diloco"
"""Names of the two baselines whose final training loss is a target."""


class Contender(NamedTuple):
    """One training algorithm with what is tuned of it.

    Attributes:
      name: in tables and files.
      make: hyper-parameters by name (scalars, possibly traced) -> algorithm.
      grid: axes by hyper-parameter; empty for what is not tuned.
      details: JSON values for the results file (a checkpoint's path and card).
    """

    name: str
    make: Callable[[Mapping[str, Any]], LocalAlgorithm]
    grid: Grid
    details: dict[str, Any] = {}


def baselines(protocol: EvalProtocol) -> tuple[Contender, ...]:
    """Data-parallel SGD and Adam (one step on the K H B examples of a round), Local SGD, SlowMo,
    DiLoCo and FedAdam."""
    num_workers, num_local_steps = protocol.num_workers, protocol.num_local_steps

    def synchronous(opt):
        return data_parallel(opt, num_workers, num_local_steps)

    def local(hparams, server):
        return local_sgd(optax.sgd(hparams["local_lr"]), server, num_workers, num_local_steps)

    local_lr = Axis((0.25, 0.5, 1.0))
    momentum = Axis((0.5, 0.8, 0.9), decay=True)
    return (
        Contender(
            "sgd",
            lambda h: synchronous(optax.sgd(h["lr"])),
            {"lr": Axis(log_spaced(0.01, 10.0, GRID_SIZE))},
        ),
        Contender(
            "adam",
            lambda h: synchronous(optax.adam(h["lr"], b1=h["b1"])),
            {
                "lr": Axis(log_spaced(0.001, 0.1, 9)),
                "b1": Axis((0.5, 0.8, 0.9), decay=True),
            },
        ),
        Contender(
            LOCAL_SGD,
            lambda h: local(h, fedavg()),
            {"local_lr": Axis(log_spaced(0.03, 3.0, GRID_SIZE))},
        ),
        Contender(
            "slowmo",
            lambda h: local(h, slowmo(h["slow_lr"], h["momentum"], h["local_lr"])),
            {"local_lr": local_lr, "slow_lr": Axis((0.5, 1.0, 2.0)), "momentum": momentum},
        ),
        Contender(
            DILOCO,
            lambda h: local(h, diloco(h["server_lr"], h["momentum"])),
            {"local_lr": local_lr, "server_lr": Axis((0.3, 0.7, 1.4)), "momentum": momentum},
        ),
        Contender(
            "fedadam",
            lambda h: local(h, fedadam(h["server_lr"], tau=h["tau"])),
            {
                "local_lr": local_lr,
                "server_lr": Axis((0.01, 0.03, 0.1)),
                "tau": Axis((1e-5, 1e-4, 1e-3)),
            },
        ),
    )


def learned(checkpoint: str | os.PathLike[str], protocol: EvalProtocol, taken: Sequence[str] = ()) -> Contender:
    """A meta-trained optimizer, with the local learning rate of its card and nothing to tune.

    A server optimizer (its card states a local learning rate) runs on top of local SGD; a
    single-machine one gets the gradient of the whole batch, as data-parallel SGD does.

    Args:
      checkpoint: a file, or the name of a pretrained optimizer.
      protocol: K and H of the evaluation.
      taken: names in use; the contender is called by its architecture, numbered if need be.

    Raises:
      FileNotFoundError: no such checkpoint.
      ValueError: a damaged checkpoint, one for another number of workers, or a server optimizer
        whose card lacks the local learning rate.
    """
    path = os.fspath(checkpoint)
    loaded = load_checkpoint(path)
    config, card = loaded.lopt.config, loaded.card
    num_workers = config.get("num_workers", protocol.num_workers)
    if num_workers != protocol.num_workers:
        raise ValueError(
            f"{path}: built for {num_workers} workers, the protocol has num_workers="
            f"{protocol.num_workers}; choose a protocol with {num_workers} or another checkpoint"
        )
    local_lr = card.get("local_learning_rate")
    synchronous = local_lr is None and config["architecture"] == "adafac_mlp_lopt"
    if synchronous:
        local_lr = 0.0
    elif not isinstance(local_lr, int | float) or local_lr <= 0:
        raise ValueError(
            f"{path}: its card has local_learning_rate={local_lr!r}; save it with "
            "learned_opt.save(..., local_learning_rate=a positive number)"
        )
    theta = jax.tree.map(jnp.asarray, loaded.theta)

    def make(hparams):
        del hparams
        transform = loaded.lopt.transform(theta)
        if synchronous:
            return data_parallel(transform, protocol.num_workers, protocol.num_local_steps)
        local_opt = optax.sgd(float(local_lr))
        return local_sgd(local_opt, transform, protocol.num_workers, protocol.num_local_steps)

    details = {"checkpoint": path, "config": config, "card": card}
    architecture, number = config["architecture"], 2
    name = architecture
    while name in taken:
        name, number = f"{architecture}_{number}", number + 1
    return Contender(name, make, {}, details)
