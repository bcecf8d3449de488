"""What a drawn problem of inputs, network, target and loss consists of (`sampled_network`)."""

from typing import NamedTuple

import numpy as np

LAYERS = ("plain", "residual", "normalised", "gated", "factorised", "repeated", "attention", "vectors")
LOSSES = ("squared", "equation", "log_cosh", "cross_entropy")
TARGETS = ("network", "waves", "products")
ACTIVATIONS = ("relu", "tanh", "gelu", "silu", "sin")
SMOOTH = ("tanh", "gelu", "silu", "sin")


class Choices(NamedTuple):
    """What a seed decides.

    Attributes:
      layers: one of `LAYERS`.
      loss: one of `LOSSES`.
      target: one of `TARGETS`.
      activation: one of `ACTIVATIONS`; smooth where the loss takes derivatives.
      vocabulary: different tokens; 0 for Gaussian inputs.
      num_inputs: tokens of an input, or its dimensions.
      width, depth: units of a hidden layer, and their number.
      num_outputs: dimensions of an answer, or classes.
      init_scale: factor on the initial matrices.
      output_scale: another on the last one.
      num_rows: training examples.
      noise: standard deviation of the answers' noise over that of the answers; of classes, the share drawn anew.
      spectrum: alpha of the inputs' variances i^-alpha.
    """

    layers: str
    loss: str
    target: str
    activation: str
    vocabulary: int
    num_inputs: int
    width: int
    depth: int
    num_outputs: int
    init_scale: float
    output_scale: float
    num_rows: int
    noise: float
    spectrum: float


def choices_of(seed: int) -> Choices:
    """The choices of a seed; over seeds, layers and losses come equally often."""
    rng = np.random.default_rng([17, seed])
    layers, loss = LAYERS[seed % len(LAYERS)], LOSSES[(seed // len(LAYERS) + seed) % len(LOSSES)]
    smooth = loss == "equation"
    tokens = not smooth and layers != "vectors" and rng.random() < 0.35
    return Choices(
        layers=layers,
        loss=loss,
        target=TARGETS[rng.integers(len(TARGETS))],
        activation=SMOOTH[rng.integers(len(SMOOTH))] if smooth else sorted(ACTIVATIONS)[rng.integers(len(ACTIVATIONS))],
        vocabulary=int(rng.choice([8, 16, 32])) if tokens else 0,
        num_inputs=int(rng.choice([2, 3, 4])) if tokens else int(rng.choice([2, 3] if smooth else [4, 8, 16, 32])),
        width=int(rng.choice([16, 24, 32, 48])),
        depth=int(rng.choice([1, 2, 3])),
        num_outputs=1 if smooth else int(rng.choice([2, 4, 10])),
        init_scale=float(np.exp(rng.uniform(np.log(0.5), np.log(2)))),
        output_scale=float(rng.choice([0.1, 1.0])),
        num_rows=int(rng.choice([128, 1024, 16384])),
        noise=float(rng.choice([0.0, 0.0, 0.05, 0.3])),
        spectrum=float(rng.uniform(0, 1.5)),
    )
