"""The figure of a run: its meta-loss over meta-steps, and its validation."""

import io
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from learned_opt.atomic_file import write_atomic

_WINDOW = 20


def draw_meta_loss(rows: list[dict[str, Any]], path: Path) -> None:
    """Writes a PNG of the meta-loss, raw and as a mean over 20 meta-steps, and of the validation loss, if any.

    Args:
      rows: of metrics.jsonl; those whose meta-loss is not finite are left out.
      path: file to write; its folder is created.
    """
    steps, losses = _points(rows, "meta_loss")
    if not len(steps):
        return
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.add_subplot()
    axes.plot(steps, losses, color="0.75", linewidth=0.8, label="each meta-step")
    if len(losses) >= _WINDOW:
        smooth = np.convolve(losses, np.full(_WINDOW, 1 / _WINDOW), mode="valid")
        axes.plot(steps[_WINDOW - 1 :], smooth, color="C0", label=f"mean of the last {_WINDOW}")
    # Spikes of single meta-steps would otherwise flatten the curve.
    low, high = losses.min(), np.quantile(losses, 0.99)
    valid_steps, valid_losses = _points(rows, "valid_loss")
    if len(valid_steps):
        axes.plot(valid_steps, valid_losses, color="C1", marker=".", label="validation, averaged theta")
        low, high = min(low, valid_losses.min()), max(high, valid_losses.max())
    axes.set_xlabel("meta-step")
    axes.set_ylabel("meta-loss (1 = a constant guess)")
    margin = 0.05 * (high - low) or 0.05
    axes.set_ylim(low - margin, high + margin)
    axes.grid(alpha=0.3)
    axes.legend()
    image = io.BytesIO()
    figure.savefig(image, format="png", dpi=150)
    path.parent.mkdir(exist_ok=True)
    write_atomic(path, image.getvalue())


def _points(rows: list[dict[str, Any]], name: str) -> tuple[np.ndarray, np.ndarray]:
    points = [(row["step"], row[name]) for row in rows if row.get(name) is not None]
    steps, values = np.array(points).reshape(-1, 2).T
    return steps, values
