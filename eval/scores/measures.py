"""What a comparison says about each contender: how good, how soon, at what price, and against whom.

Two readings of the speed-up over the baseline that set a target (eval/scores/targets.py):

    on the mean curves   rounds in which the baseline's seed-mean curve first had its own final loss, over the
                         contender's (the table of one comparison)
    per seed             the same with the curves of one seed, which share initial parameters and batches
                         (`speed_ups`, for aggregates)

A contender that never gets there, or that diverges later, has speed-up 0: it lowers the aggregate instead of leaving
it. A copy of the baseline scores exactly 1 in both. Between contenders that compute the same gradients a round, as most
do, a ratio of rounds is one of gradient evaluations too, and, where they send the same, of bytes and simulated seconds.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from eval.results import ContenderResult, Kind, Results
from eval.scores.network import DEFAULT_NETWORK, Network
from eval.scores.scores import num_diverged, reach, speed_up
from eval.scores.spending import bytes_received, bytes_sent, gradients, seconds
from eval.scores.targets import Target, targets


class Cost(NamedTuple):
    """What reaching a target took; None if it was not reached.

    Attributes:
      rounds: on the seed-mean curve.
      gradients: minibatch gradients of all workers together.
      bytes: sent by one worker, the mean over seeds.
      received: bytes received by one worker.
      seconds: simulated.
      speed_up: over the baseline that set the target, on the mean curves.
    """

    rounds: int | None
    gradients: int | None
    bytes: int | None
    received: int | None
    seconds: float | None
    speed_up: float | None


class Measures(NamedTuple):
    """One contender in one comparison.

    Attributes:
      name: of the contender.
      kind: as in the results.
      final: split -> metric -> mean over seeds, inf if one diverged.
      to_target: target -> what reaching it took; targets whose baseline took part and did not diverge.
      diverged: share of the final runs whose training loss is not finite.
      tuning_runs: training runs its tuning used.
      tuning_seconds: that they took; 0 where it was not recorded.
      interior: whether the tuned setting has all its neighbours in the grid.
      diagnostics: name -> mean over seeds and points, those that are defined.
      cost: from the results file.
    """

    name: str
    kind: Kind
    final: dict[str, dict[str, float]]
    to_target: dict[str, Cost]
    diverged: float
    tuning_runs: int
    tuning_seconds: float
    interior: bool
    diagnostics: dict[str, float]
    cost: Mapping[str, float | None]


def measures(results: Results, network: Network = DEFAULT_NETWORK) -> list[Measures]:
    """All contenders, in the order of the results."""
    return [_measure(contender, results, network) for contender in results.contenders]


def speed_ups(contender: ContenderResult, baseline: ContenderResult) -> Float[np.ndarray, "seeds"]:
    """Speed-up over the baseline for every seed; 0 where the contender never had the baseline's final loss.

    nan where the baseline itself diverged, which sets no target.
    """
    ratios = []
    for own, theirs in zip(contender.train_loss, baseline.train_loss, strict=True):
        target = float(theirs[-1])
        if not np.isfinite(target):
            ratios.append(np.nan)
            continue
        needed = reach(contender.rounds, own[None], target).rounds
        ratio = speed_up(reach(baseline.rounds, theirs[None], target).rounds, needed)
        ratios.append(0.0 if ratio is None else ratio)
    return np.array(ratios)


def _measure(contender: ContenderResult, results: Results, network: Network) -> Measures:
    final = {
        split: {metric: float(np.mean(values, dtype=np.float64)) for metric, values in metrics.items()}
        for split, metrics in contender.final.items()
    }
    to_target = {name: _cost(contender, target, results, network) for name, target in targets(results).items()}
    diagnostics = {}
    for name, values in contender.diagnostics.items():
        defined = values[np.isfinite(values)]
        diagnostics[name] = float(np.mean(defined)) if defined.size else float("nan")
    losses = contender.final["train"]["loss"]
    return Measures(
        name=contender.name,
        kind=contender.kind,
        final=final,
        to_target=to_target,
        diverged=num_diverged(losses) / len(losses),
        tuning_runs=int(contender.tuning["num_runs"]),
        tuning_seconds=float(contender.tuning.get("seconds", 0.0)),
        interior=bool(contender.tuning["interior"]),
        diagnostics=diagnostics,
        cost=contender.cost,
    )


def _cost(contender: ContenderResult, target: Target, results: Results, network: Network) -> Cost:
    protocol = results.protocol
    rounds = reach(contender.rounds, contender.train_loss, target.loss).rounds
    if rounds is None:
        return Cost(None, None, None, None, None, None)
    point = int(np.searchsorted(contender.rounds, rounds))

    def until_then(spent):
        return float(np.mean(spent[:, point]))

    return Cost(
        rounds=rounds,
        gradients=round(until_then(gradients(contender, protocol))),
        bytes=round(until_then(bytes_sent(contender))),
        received=round(until_then(bytes_received(contender))),
        seconds=until_then(seconds(contender, protocol, network)),
        speed_up=speed_up(target.rounds, rounds),
    )
