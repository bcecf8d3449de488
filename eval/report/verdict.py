"""What the results say, in a sentence for each learned optimizer: the first thing a report shows."""

from collections.abc import Sequence

import numpy as np

from eval.results import Results, everyone
from eval.scores.rivals import (
    RivalOf,
    best_validated,
    final_test_losses,
    own_anchor,
    speed_up_scores,
    target_setter,
)
from eval.scores.statistics import bootstrap, iqm
from eval.scores.targets import BEST, LOCAL_SGD, targets


def verdict(cells: Sequence[Results]) -> list[str]:
    """Sentences; nothing for no cells."""
    if not cells:
        return []
    contenders = everyone(cells)
    judged = [name for name, c in contenders.items() if c.kind == "learned"]
    judged = judged or [name for name, c in contenders.items() if c.kind == "other"]
    return [_sentence(cells, name) for name in judged] or [_baselines_alone(cells)]


def _sentence(cells: Sequence[Results], name: str) -> str:
    taken = sum(any(c.name == name for c in results.contenders) for results in cells)
    said = [
        _pace(cells, name, target_setter(LOCAL_SGD), "tuned Local SGD"),
        _pace(cells, name, target_setter(BEST), "the best tuned baseline of each cell"),
        _pace(cells, name, own_anchor(name), "its own anchor, the same step with nothing learned"),
    ]
    paces = "; ".join(text for text in said if text)
    where = f"over {taken} cells" if taken > 1 else "in one cell"
    parts = [f"{name} {where}: {paces or 'no tuned baseline to time it against'}."]
    own, theirs = final_test_losses(cells, name, best_validated)
    if own.size:
        lower = int(np.sum(np.mean(own, axis=0) < np.mean(theirs, axis=0)))
        parts.append(
            f"Its test loss is lower than that of the tuned baseline with the lowest validation loss in {lower} of "
            f"{own.shape[1]}."
        )
    diverged = [c for results in cells for c in results.contenders if c.name == name]
    losses = np.concatenate([c.final["train"]["loss"] for c in diverged])
    if not np.isfinite(losses).all():
        parts.append(f"{100 * np.mean(~np.isfinite(losses)):.0f}% of its runs diverged.")
    return " ".join(parts)


def _pace(cells: Sequence[Results], name: str, rival: RivalOf, title: str) -> str:
    """ "2.4 times as fast as tuned Local SGD (95% interval 1.9 to 3.1)"; empty without the rival."""
    scores = speed_up_scores(cells, name, rival)
    if not scores.size:
        return ""
    found = bootstrap(iqm, scores)
    if found.high == 0:
        return f"never at the final training loss of {title}"
    chance = ", which may be chance" if found.low <= 1 <= found.high and found.low < found.high else ""
    low, high = _factor(found.low), _factor(found.high)
    return f"{_factor(found.point)} times as fast as {title} (95% interval {low} to {high}{chance})"


def _factor(value: float) -> str:
    return f"{value:.0f}" if value >= 10 else f"{value:.1f}" if value >= 1 else f"{value:.2f}"


def _baselines_alone(cells: Sequence[Results]) -> str:
    best = [found[BEST].setter.name for results in cells if BEST in (found := targets(results))]
    if not best:
        return "No tuned baseline finished."
    name = max(dict.fromkeys(best), key=best.count)
    return f"Baselines alone: {name} ends with the lowest training loss in {best.count(name)} of {len(cells)} cells."
