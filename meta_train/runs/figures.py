"""The figure of a run: its meta-loss over meta-steps."""

import io
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from learned_opt.atomic_file import write_atomic

_WINDOW = 20


def draw_meta_loss(rows: list[dict[str, Any]], path: Path) -> None:
    """Writes a PNG of the meta-loss, raw and as a mean over 20 meta-steps.

    Args:
      rows: of metrics.jsonl; those whose meta-loss is not finite are left out.
      path: file to write; its folder is created.
    """
    points = [(row["step"], row["meta_loss"]) for row in rows if row.get("meta_loss") is not None]
    if not points:
        return
    steps, losses = np.array(points).T
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.add_subplot()
    axes.plot(steps, losses, color="0.75", linewidth=0.8, label="each meta-step")
    if len(losses) >= _WINDOW:
        smooth = np.convolve(losses, np.full(_WINDOW, 1 / _WINDOW), mode="valid")
        axes.plot(steps[_WINDOW - 1 :], smooth, color="C0", label=f"mean of the last {_WINDOW}")
    axes.set_xlabel("meta-step")
    axes.set_ylabel("meta-loss (1 = a constant guess)")
    # Spikes of single meta-steps would otherwise flatten the curve.
    low, high = losses.min(), np.quantile(losses, 0.99)
    margin = 0.05 * (high - low) or 0.05
    axes.set_ylim(low - margin, high + margin)
    axes.grid(alpha=0.3)
    axes.legend()
    image = io.BytesIO()
    figure.savefig(image, format="png", dpi=150)
    path.parent.mkdir(exist_ok=True)
    write_atomic(path, image.getvalue())
