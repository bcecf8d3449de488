"""The table of sweeps in and out of distribution, as Markdown, and their runs as JSON."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from eval.ood.sweep import OodSweep, best_setting, line
from eval.protocol import EvalProtocol
from eval.versioned_json import JsonFormat

FORMAT = JsonFormat("record of sweeps", 1, "python -m eval ood", indent=1)


def ood_table(sweeps: Sequence[OodSweep], protocol: EvalProtocol) -> str:
    """A row for every optimizer: accuracies in percent at its best setting, the slope over its sweep, and what its line
    says at one accuracy for all: the lowest of the optimizers' best."""
    shifts = list(sweeps[0].out_of_distribution)
    best = {sweep.name: best_setting(sweep) for sweep in sweeps}
    common = min(float(sweep.in_distribution[best[sweep.name]].mean()) for sweep in sweeps)
    header = ["optimizer", "test", "shifted, mean", *shifts, "slope", "runs", f"shifted at {100 * common:.1f}"]
    lines = ["| " + " | ".join(header) + " |", "| --- |" + " ---: |" * (len(header) - 1)]
    for sweep in sweeps:
        own, at = line(sweep), best[sweep.name]
        by_shift = [float(values[at].mean()) for values in sweep.out_of_distribution.values()]
        accuracies = [float(sweep.in_distribution[at].mean()), float(np.mean(by_shift)), *by_shift]
        cells = [sweep.name, *(f"{100 * value:.1f}" for value in accuracies)]
        cells += [_number(own.slope, "{:.2f}"), str(own.runs), _number(100 * own.at(common), "{:.1f}")]
        lines.append("| " + " | ".join(cells) + " |")
    p = protocol
    notes = (
        f"Task {p.task}, {p.num_rounds} rounds, K={p.num_workers}, H={p.num_local_steps}, batch {p.batch_size}, "
        f"{p.num_seeds} seeds; accuracies in percent, at the setting with the lowest inner-validation loss. Slope: of "
        "the mean accuracy under the shifts on that without, over all runs of the sweep that have twice the accuracy "
        "of a guess; the last column is that line at one accuracy for all."
    )
    return "\n".join([*lines, "", notes, ""])


def ood_record(sweeps: Sequence[OodSweep], protocol: EvalProtocol, provenance: dict[str, Any]) -> dict[str, Any]:
    """Every run, as JSON values; a loss that is not finite is None."""
    return {
        "protocol": {field: getattr(protocol, field) for field in protocol.__dataclass_fields__},
        "provenance": provenance,
        "sweeps": [
            {
                "name": sweep.name,
                "settings": [dict(setting) for setting in sweep.settings],
                "guess": sweep.guess,
                "valid_loss": _json(sweep.valid_loss),
                "in_distribution": _json(sweep.in_distribution),
                "out_of_distribution": {name: _json(x) for name, x in sweep.out_of_distribution.items()},
            }
            for sweep in sweeps
        ],
    }


def _json(values: np.ndarray) -> list[list[float | None]]:
    return [[float(f"{x:.6g}") if np.isfinite(x) else None for x in row] for row in values]


def _number(value: float, form: str) -> str:
    return form.format(value) if np.isfinite(value) else "-"
