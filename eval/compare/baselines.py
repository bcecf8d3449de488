"""The baselines by name, and groups of them.

    sgd adam dp_adamw dp_muon        data-parallel: one step a round, on its K H B examples
    local_sgd slowmo diloco fedadam  SGD workers under a server optimizer
    diloco_adam diloco_adamw         DiLoCo's own form (Douillard et al. 2023, arXiv 2311.08105) has AdamW workers

    dp_NAME                          data-parallel, any optimizer of `python -m learned_opt optimizers`

    auto_diloco                      a rule that finds the workers' rate itself; one setting for all problems
    muloco, sparse_loco, scaffold ...    see eval/compare/rivals/

Every tuned baseline has a grid of 27 settings (9 under coarse tuning) and the same rule for its growth
(eval/compare/grids.py). Literal tables: to add a baseline is to add a function and its line.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import optax

from eval.compare.contenders import Contender, contender
from eval.compare.grids import Grid, GridAxis, budgeted
from eval.compare.rivals.algorithms import RIVALS
from eval.compare.rivals.compressed import COMPRESSED
from eval.compare.rivals.gossip import GOSSIP
from eval.compare.rivals.heterogeneous import HETEROGENEOUS
from eval.compare.rivals.optimizers import OPTIMIZER_BASELINES
from eval.compare.rivals.rival import (
    ADAM_LR,
    DILOCO_GRID,
    LOCAL_LR,
    MANY_LOCAL_LRS,
    MANY_LRS,
    MOMENTUM,
    SERVER_LR,
    SOME_ADAM_LRS,
    WEIGHT_DECAY,
)
from eval.protocol import EvalProtocol
from eval.schedules import factor
from eval.scores.targets import DILOCO, LOCAL_SGD
from learned_opt.algorithms.auto_diloco import auto_diloco, auto_diloco_workers
from learned_opt.algorithms.server import diloco, fedadam, fedavg, slowmo
from learned_opt.names import hint


def _baseline(
    name: str, protocol: EvalProtocol, transform, grid: Grid, local=None, own_units: bool = False
) -> Contender:
    grid = budgeted(grid, protocol.tuning)
    return contender(name, protocol, transform, grid, local, kind="baseline", own_units=own_units)


def _sgd_workers(h: Mapping[str, Any]) -> optax.GradientTransformation:
    return optax.sgd(h["local_lr"])


def _sgd(protocol: EvalProtocol) -> Contender:
    return _baseline("sgd", protocol, lambda h: optax.sgd(h["lr"]), {"lr": MANY_LRS})


def _adam(protocol: EvalProtocol) -> Contender:
    grid = {"lr": SOME_ADAM_LRS, "b1": MOMENTUM}
    return _baseline("adam", protocol, lambda h: optax.adam(h["lr"], b1=h["b1"]), grid)


def _dp_adamw(protocol: EvalProtocol) -> Contender:
    grid = {"lr": SOME_ADAM_LRS, "weight_decay": WEIGHT_DECAY}
    return _baseline("dp_adamw", protocol, lambda h: optax.adamw(h["lr"], weight_decay=h["weight_decay"]), grid)


def _dp_muon(protocol: EvalProtocol) -> Contender:
    """Muon (Jordan et al. 2024) on matrices with optax's Adam on the rest, at the same learning rate."""
    grid = {"lr": SOME_ADAM_LRS, "momentum": GridAxis((0.8, 0.9, 0.95), decay=True)}
    return _baseline("dp_muon", protocol, lambda h: optax.contrib.muon(h["lr"], beta=h["momentum"]), grid)


def _local_sgd(protocol: EvalProtocol) -> Contender:
    return _baseline(LOCAL_SGD, protocol, lambda h: fedavg(), {"local_lr": MANY_LOCAL_LRS}, _sgd_workers)


def _slowmo(protocol: EvalProtocol) -> Contender:
    grid = {"local_lr": LOCAL_LR, "slow_lr": GridAxis((0.5, 1.0, 2.0)), "momentum": MOMENTUM}

    def server(h: Mapping[str, Any]) -> optax.GradientTransformation:
        if protocol.schedule == "constant":
            return slowmo(h["slow_lr"], h["momentum"], h["local_lr"])
        # The momentum is in units of the local rate of its round.
        return optax.inject_hyperparams(slowmo)(
            learning_rate=h["slow_lr"],
            momentum=h["momentum"],
            local_learning_rate=lambda round: h["local_lr"] * factor(protocol.schedule, round, protocol.num_rounds),
        )

    return _baseline("slowmo", protocol, server, grid, _sgd_workers)


def _diloco(protocol: EvalProtocol) -> Contender:
    return _baseline(DILOCO, protocol, lambda h: diloco(h["server_lr"], h["momentum"]), DILOCO_GRID, _sgd_workers)


def _diloco_adam(protocol: EvalProtocol) -> Contender:
    grid = {"local_lr": ADAM_LR, "server_lr": SERVER_LR, "momentum": MOMENTUM}
    return _baseline(
        "diloco_adam",
        protocol,
        lambda h: diloco(h["server_lr"], h["momentum"]),
        grid,
        lambda h: optax.adam(h["local_lr"]),
    )


def _diloco_adamw(protocol: EvalProtocol, momentum: float = 0.9) -> Contender:
    grid = {
        "local_lr": ADAM_LR,
        "server_lr": SERVER_LR,
        "weight_decay": WEIGHT_DECAY,
    }
    return _baseline(
        "diloco_adamw",
        protocol,
        lambda h: diloco(h["server_lr"], momentum),
        grid,
        lambda h: optax.adamw(h["local_lr"], weight_decay=h["weight_decay"]),
    )


def _fedadam(protocol: EvalProtocol) -> Contender:
    grid = {"local_lr": LOCAL_LR, "server_lr": GridAxis((0.01, 0.03, 0.1)), "tau": GridAxis((1e-5, 1e-4, 1e-3))}
    return _baseline(
        "fedadam", protocol, lambda h: fedadam(h["server_lr"], tau=h["tau"]), grid, _sgd_workers, own_units=True
    )


def _auto_diloco(protocol: EvalProtocol) -> Contender:
    workers = auto_diloco_workers()
    return _baseline("auto_diloco", protocol, lambda h: auto_diloco(), {}, lambda h: workers)


BASELINES: dict[str, Callable[..., Contender]] = {
    "sgd": _sgd,
    "adam": _adam,
    LOCAL_SGD: _local_sgd,
    "slowmo": _slowmo,
    DILOCO: _diloco,
    "diloco_adam": _diloco_adam,
    "fedadam": _fedadam,
    "diloco_adamw": _diloco_adamw,
    "dp_adamw": _dp_adamw,
    "dp_muon": _dp_muon,
    "auto_diloco": _auto_diloco,
    **RIVALS,
    **OPTIMIZER_BASELINES,
}
"""Name -> (protocol, ...) -> contender, in the order of tables."""

GROUPS: dict[str, tuple[str, ...]] = {
    "core": (
        "sgd",
        "adam",
        LOCAL_SGD,
        "slowmo",
        DILOCO,
        "diloco_adam",
        "fedadam",
        "diloco_adamw",
        "dp_adamw",
        "dp_muon",
        "auto_diloco",
        "muloco",
    ),
    "targets": (LOCAL_SGD, DILOCO),
    "compressed": (LOCAL_SGD, DILOCO, *COMPRESSED),
    "gossip": (LOCAL_SGD, DILOCO, *GOSSIP),
    "heterogeneous": (LOCAL_SGD, DILOCO, *HETEROGENEOUS),
    "rivals": tuple(RIVALS),
    "optimizers": ("sgd", "adam", "dp_adamw", "dp_muon", *OPTIMIZER_BASELINES),
    "all": tuple(name for name in BASELINES if name not in OPTIMIZER_BASELINES),
    "none": (),
}
"""Names that stand for several baselines; those of a kind have what they are measured against with them. `all` is every
algorithm; more optimizers of one step a round are in `optimizers`."""


def make_baselines(protocol: EvalProtocol, names: Sequence[str] = ("core",)) -> tuple[Contender, ...]:
    """The baselines of these names and groups, each once, in the order of BASELINES.

    Raises:
      ValueError: an unknown name.
    """
    wanted = baseline_names(names)
    return tuple(make(protocol) for name, make in BASELINES.items() if name in wanted)


def baseline_names(names: Sequence[str]) -> tuple[str, ...]:
    """Names with the groups among them written out.

    Raises:
      ValueError: an unknown name.
    """
    for name in names:
        if name not in GROUPS and name not in BASELINES:
            raise ValueError(f"baselines: {name!r} is unknown; {hint(name, (*GROUPS, *BASELINES))}")
    return tuple(dict.fromkeys(baseline for name in names for baseline in GROUPS.get(name, (name,))))
