"""Rivals made for different data on the workers.

fedprox     Li et al. 2020, arXiv 1812.06127
scaffold    Karimireddy et al. 2020, arXiv 1910.06378; twice the bytes
feddyn      Acar et al. 2021, arXiv 2111.04263
fedspeed    Sun et al. 2023, arXiv 2302.10429; twice the gradients
"""

from collections.abc import Callable

from eval.compare.contenders import Contender
from eval.compare.grids import GridAxis
from eval.compare.rivals.rival import LOCAL_LR, MANY_LOCAL_LRS, SOME_LOCAL_LRS, rival
from learned_opt.algorithms.corrections.feddyn import feddyn
from learned_opt.algorithms.corrections.fedprox import fedprox
from learned_opt.algorithms.corrections.fedspeed import fedspeed
from learned_opt.algorithms.corrections.scaffold import scaffold

MU = GridAxis((0.01, 0.1, 1.0))

HETEROGENEOUS: dict[str, Callable[..., Contender]] = {
    "fedprox": rival(
        "fedprox", lambda h, workers, protocol: fedprox(workers, h["mu"]), {"local_lr": SOME_LOCAL_LRS, "mu": MU}
    ),
    "scaffold": rival("scaffold", lambda h, workers, protocol: scaffold(workers), {"local_lr": MANY_LOCAL_LRS}),
    "feddyn": rival(
        "feddyn", lambda h, workers, protocol: feddyn(workers, h["mu"]), {"local_lr": SOME_LOCAL_LRS, "mu": MU}
    ),
    "fedspeed": rival(
        "fedspeed",
        lambda h, workers, protocol: fedspeed(workers, h["mu"], h["rho"]),
        {"local_lr": LOCAL_LR, "mu": MU, "rho": GridAxis((0.01, 0.03, 0.1))},
    ),
}
"""Name -> protocol -> contender."""
