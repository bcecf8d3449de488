"""The seven tuned baselines.

Every baseline has a grid of GRID_SIZE settings (9 under coarse tuning) and the same rule for its growth
(eval/compare/grids.py). Learning rates are constant, for the baselines and for the local steps under a learned server
optimizer.
"""

import optax

from eval.compare.contenders import Contender, contender
from eval.compare.grids import Axis, coarse, log_spaced
from eval.protocol import TUNING_BUDGETS, EvalProtocol
from learned_opt.algorithms.server import diloco, fedadam, fedavg, slowmo

GRID_SIZE = TUNING_BUDGETS["full"]
"""Settings of every baseline's grid."""

LOCAL_SGD, DILOCO = "local_sgd", "diloco"
"""Names of the two baselines whose final training loss is a target."""

BASELINES = ("sgd", "adam", LOCAL_SGD, "slowmo", DILOCO, "diloco_adam", "fedadam")
"""Names of all of them, in the order of tables."""


def baselines(protocol: EvalProtocol) -> tuple[Contender, ...]:
    """Data-parallel SGD and Adam (one step on the K H B examples of a round), Local SGD, SlowMo, DiLoCo with SGD
    workers and with Adam workers (the paper's own form, with Adam for AdamW), and FedAdam."""
    local_lr = Axis((0.25, 0.5, 1.0))
    momentum = Axis((0.5, 0.8, 0.9), decay=True)
    server_lr = Axis((0.3, 0.7, 1.4))

    def sgd_workers(h):
        return optax.sgd(h["local_lr"])

    everyone = (
        contender("sgd", protocol, lambda h: optax.sgd(h["lr"]), {"lr": Axis(log_spaced(0.01, 10.0, GRID_SIZE))}),
        contender(
            "adam",
            protocol,
            lambda h: optax.adam(h["lr"], b1=h["b1"]),
            {"lr": Axis(log_spaced(0.001, 0.1, 9)), "b1": momentum},
        ),
        contender(
            LOCAL_SGD,
            protocol,
            lambda h: fedavg(),
            {"local_lr": Axis(log_spaced(0.03, 3.0, GRID_SIZE))},
            sgd_workers,
        ),
        contender(
            "slowmo",
            protocol,
            lambda h: slowmo(h["slow_lr"], h["momentum"], h["local_lr"]),
            {"local_lr": local_lr, "slow_lr": Axis((0.5, 1.0, 2.0)), "momentum": momentum},
            sgd_workers,
        ),
        contender(
            DILOCO,
            protocol,
            lambda h: diloco(h["server_lr"], h["momentum"]),
            {"local_lr": local_lr, "server_lr": server_lr, "momentum": momentum},
            sgd_workers,
        ),
        contender(
            "diloco_adam",
            protocol,
            lambda h: diloco(h["server_lr"], h["momentum"]),
            {"local_lr": Axis((0.001, 0.003, 0.01)), "server_lr": server_lr, "momentum": momentum},
            lambda h: optax.adam(h["local_lr"]),
        ),
        contender(
            "fedadam",
            protocol,
            lambda h: fedadam(h["server_lr"], tau=h["tau"]),
            {
                "local_lr": local_lr,
                "server_lr": Axis((0.01, 0.03, 0.1)),
                "tau": Axis((1e-5, 1e-4, 1e-3)),
            },
            sgd_workers,
        ),
    )
    if protocol.tuning == "full":
        return everyone
    return tuple(c._replace(grid=coarse(c.grid)) for c in everyone)
