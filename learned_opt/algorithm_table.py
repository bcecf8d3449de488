"""The table of all distributed algorithms and server optimizers, by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from learned_opt.algorithms.adaptive.consensus_steps import consensus_steps
from learned_opt.algorithms.adaptive.norm_test import norm_test
from learned_opt.algorithms.adaptive.qsr import qsr
from learned_opt.algorithms.auto_diloco import auto_diloco
from learned_opt.algorithms.compression.quantize import quantize
from learned_opt.algorithms.compression.quantized_diloco import quantized_diloco
from learned_opt.algorithms.compression.sparse_loco import sparse_loco
from learned_opt.algorithms.compression.top_k import top_k
from learned_opt.algorithms.compression.upload import error_feedback
from learned_opt.algorithms.controls.gpa import gpa
from learned_opt.algorithms.controls.lookahead import lookahead
from learned_opt.algorithms.controls.snoo import snoo
from learned_opt.algorithms.controls.synchronous import synchronous
from learned_opt.algorithms.corrections.feddyn import feddyn
from learned_opt.algorithms.corrections.fedprox import fedprox
from learned_opt.algorithms.corrections.fedspeed import fedspeed
from learned_opt.algorithms.corrections.scaffold import scaffold
from learned_opt.algorithms.curriculum import with_curriculum
from learned_opt.algorithms.data_parallel import data_parallel
from learned_opt.algorithms.diff2 import diff2
from learned_opt.algorithms.diloco import diloco_adamw
from learned_opt.algorithms.fragments.greedy_fragments import greedy_fragments
from learned_opt.algorithms.fragments.streaming_diloco import streaming_diloco
from learned_opt.algorithms.gossip.consensus_control import consensus_control
from learned_opt.algorithms.gossip.dpsgd import dpsgd
from learned_opt.algorithms.gossip.noloco import noloco
from learned_opt.algorithms.gossip.qg_adam import qg_adam
from learned_opt.algorithms.gossip.quasi_global import qg_dsgdm
from learned_opt.algorithms.local_sgd import local_sgd
from learned_opt.algorithms.loss_weighted_averaging import loss_weighted_averaging
from learned_opt.algorithms.muloco import muloco
from learned_opt.algorithms.muloco_momentum import muloco_momentum
from learned_opt.algorithms.palsgd import palsgd
from learned_opt.algorithms.post_local_sgd import post_local_sgd, synchronous_at_first
from learned_opt.algorithms.server import diloco, fedadam, fedavg, slowmo
from learned_opt.algorithms.servers.fedavgm import fedavgm
from learned_opt.algorithms.servers.fedyogi import fedyogi
from learned_opt.algorithms.stragglers.gradient_coding import coded_data_parallel
from learned_opt.algorithms.stragglers.late_workers import late_workers, local_sgd_without_late_workers
from learned_opt.algorithms.stragglers.sequential_coding import sequential_coded_data_parallel
from learned_opt.algorithms.target_surrogate import with_target_surrogate
from learned_opt.algorithms.zeroth_order.fzoos import fzoos


class Entry(NamedTuple):
    """A row of the table.

    Attributes:
      function: arguments -> the algorithm, or the server optimizer.
      paper: where it is from.
      use: what it is for, in one line.
    """

    function: Callable[..., Any]
    paper: str
    use: str


ALGORITHMS: dict[str, Entry] = {
    "local_sgd": Entry(local_sgd, "Stich 2019, 1805.09767", "any local optimizer, any server optimizer"),
    "post_local_sgd": Entry(post_local_sgd, "Lin 2020, 1808.07217", "synchronous at first, local steps later"),
    "diloco_adamw": Entry(
        diloco_adamw, "Douillard 2023, 2311.08105", "AdamW workers under a schedule, Nesterov server"
    ),
    "muloco": Entry(muloco, "Therien 2025, 2505.23725", "Muon workers, Nesterov server"),
    "palsgd": Entry(palsgd, "Naganuma 2025, 2504.18454", "pulls to the global model in the place of some gradients"),
    "qsr": Entry(qsr, "Gu 2024, 2310.14423", "longer rounds as the learning rate falls"),
    "norm_test": Entry(norm_test, "Lau 2024, 2402.11215", "longer rounds as noise outgrows the gradient"),
    "consensus_steps": Entry(consensus_steps, "Kong 2021, 2102.04828", "rounds as long as the workers stay together"),
    "streaming_diloco": Entry(streaming_diloco, "Douillard 2025, 2501.18512", "a fragment of the model a round"),
    "greedy_fragments": Entry(greedy_fragments, "Nutini 2017, 1712.08859", "the fragment that has moved most, a round"),
    "loss_weighted_averaging": Entry(loss_weighted_averaging, "Riedl 2023, 2306.09778", "workers count by their loss"),
    "local_sgd_without_late_workers": Entry(local_sgd_without_late_workers, "", "rounds that do not wait"),
    "coded_data_parallel": Entry(
        coded_data_parallel, "Tandon 2017, 1612.03301", "exact gradients without late workers"
    ),
    "sequential_coded_data_parallel": Entry(
        sequential_coded_data_parallel, "Krishnan 2023, 2211.13802", "the same from shorter codes, a round later"
    ),
    "diff2": Entry(diff2, "Murata 2023, 2302.03884", "differences of gradients, with noise for privacy"),
    "fzoos": Entry(fzoos, "Shu 2023, 2308.04077", "values of the loss alone, no gradients"),
    "sparse_loco": Entry(sparse_loco, "Sarfi 2025, 2508.15706", "top-k with error feedback in 2 bits"),
    "quantized_diloco": Entry(quantized_diloco, "Douillard 2025, 2501.18512", "pseudo-gradients of 8, 4 or 2 bits"),
    "fedprox": Entry(fedprox, "Li 2020, 1812.06127", "different data: local steps held to the global parameters"),
    "scaffold": Entry(scaffold, "Karimireddy 2020, 1910.06378", "different data: control variates, twice the bytes"),
    "feddyn": Entry(feddyn, "Acar 2021, 2111.04263", "different data: a regularizer that adapts to each worker"),
    "fedspeed": Entry(
        fedspeed, "Sun 2023, 2302.10429", "different data: FedDyn with gradients uphill, twice the compute"
    ),
    "dpsgd": Entry(dpsgd, "Lian 2017, 1705.09056", "no server: averages with neighbours"),
    "qg_dsgdm": Entry(qg_dsgdm, "Lin 2021, 2102.04761", "no server, different data: momentum of the models"),
    "qg_adam": Entry(qg_adam, "Lin 2021, 2102.04761", "no server, different data: Adam's moments of the models"),
    "consensus_control": Entry(consensus_control, "Kong 2021, 2102.04828", "no server: averages until near enough"),
    "noloco": Entry(noloco, "Kolehmainen 2025, 2506.10911", "no server: DiLoCo in random pairs"),
    "data_parallel": Entry(data_parallel, "", "control: one step a round on all of its examples"),
    "synchronous": Entry(synchronous, "", "control: the mean gradient at every local step"),
    "lookahead": Entry(lookahead, "Zhang 2019, 1907.08610", "control: an outer step without drift"),
    "snoo": Entry(snoo, "2025, 2510.15830", "control: outer momentum without drift"),
    "gpa": Entry(gpa, "2025, 2512.17131", "control: outer momentum smoothed over every step"),
}
"""Name -> what returns a `LocalAlgorithm`."""

SERVERS: dict[str, Entry] = {
    "fedavg": Entry(fedavg, "McMahan 2017, 1602.05629", "the mean of the workers"),
    "slowmo": Entry(slowmo, "Wang 2020, 1910.00643", "heavy-ball momentum in units of the local learning rate"),
    "fedavgm": Entry(fedavgm, "Hsu 2019, 1909.06335", "heavy-ball momentum"),
    "diloco": Entry(diloco, "Douillard 2023, 2311.08105", "Nesterov momentum"),
    "muloco_momentum": Entry(muloco_momentum, "Therien 2025, 2505.23725", "Nesterov momentum of scaled steps"),
    "auto_diloco": Entry(auto_diloco, "", "Nesterov momentum, and a rate for the workers that follows the rounds"),
    "fedadam": Entry(fedadam, "Reddi 2021, 2003.00295", "Adam over rounds"),
    "fedyogi": Entry(fedyogi, "Reddi 2021, 2003.00295", "Adam whose second moment falls slowly"),
}
"""Name -> what returns a server optimizer, for the algorithms that take one."""


AROUND: dict[str, Entry] = {
    "synchronous_at_first": Entry(synchronous_at_first, "Lin 2020, 1808.07217", "an algorithm after synchronous steps"),
    "with_curriculum": Entry(with_curriculum, "Vahidian 2023, 2212.12712", "an algorithm on examples by their loss"),
    "with_target_surrogate": Entry(
        with_target_surrogate,
        "Lavington 2023, 2302.02607",
        "an algorithm on surrogates, many steps a gradient of outputs",
    ),
    "quantize": Entry(quantize, "Therien 2025, 2505.23725", "an upload of 8, 4 or 2 bits"),
    "top_k": Entry(top_k, "Sarfi 2025, 2508.15706", "an upload of the largest elements"),
    "error_feedback": Entry(error_feedback, "Karimireddy 2019, 1901.09847", "an upload that keeps what was left out"),
    "late_workers": Entry(late_workers, "", "an upload that leaves out who is late, or absent"),
}
"""Name -> what goes around an algorithm, or into one that takes an `upload`."""


def table_text() -> str:
    """All tables as text, one entry a line: name, module, paper, use."""
    tables = {"algorithms": ALGORITHMS, "server optimizers": SERVERS, "around them": AROUND}
    rows = [
        (name, entry.function.__module__.removeprefix("learned_opt.algorithms."), entry.paper, entry.use)
        for table in tables.values()
        for name, entry in table.items()
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    lines = ["from learned_opt.algorithms.MODULE import NAME"]
    for title, table in tables.items():
        lines += ["", title]
        for name, module, paper, use in (row for row in rows if row[0] in table):
            lines.append("  ".join([name.ljust(widths[0]), module.ljust(widths[1]), paper.ljust(widths[2]), use]))
    return "\n".join(lines)
