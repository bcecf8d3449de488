"""What a problem with a drawn objective consists of (`sampled_objective`)."""

from typing import NamedTuple

import numpy as np

KINDS = (
    "denoising",
    "nt_xent",
    "temporal_difference",
    "quantile",
    "vae",
    "triplet",
    "policy",
    "masked",
    "survival",
    "vicreg",
    "mixture",
    "transformation",
    "control",
    "poisson",
    "autoregressive",
    "correlation",
    "policy_gradient",
    "distillation",
    "noise_contrastive",
    "ranking",
)
INPUTS = ("images", "mixture", "low_rank")
NETWORKS = ("linear", "plain", "batch_norm", "layer_norm", "residual", "conv", "tied")
ACTIVATIONS = ("relu", "tanh", "gelu", "silu", "elu")

_TWO_NETWORKS = ("vae", "correlation")
_OF_VECTORS = ("denoising", "masked", "vae", "autoregressive", "correlation", "control")
"""What a convolution does not serve: answers as large as images, or inputs that are none."""
_NOT_LINEAR = ("autoregressive", "control", "vae", "noise_contrastive")


class Choices(NamedTuple):
    """What a seed decides.

    Attributes:
      kind: one of `KINDS`.
      inputs: one of `INPUTS`.
      network: one of `NETWORKS`.
      activation: one of `ACTIVATIONS`.
      num_inputs: dimensions of an input; 64 for images.
      width, depth: units of a hidden layer, and their number.
      size: features, answers, actions, latent dimensions or classes, whatever the kind has.
      level: in [0, 1], from which a kind takes its temperature, margin, discount, noise of a view, ...
      few: a second such choice: few candidates, negatives, quantiles, or many.
      init_scale: factor on the initial matrices.
      output_scale: another on the last one.
      input_scale: standard deviation of an entry of the inputs.
      num_rows: training examples.
      noise: standard deviation of the answers' noise over that of the answers, for kinds with answers.
      fresh: whether noise and views are drawn anew in every batch, or once for every example.
    """

    kind: str
    inputs: str
    network: str
    activation: str
    num_inputs: int
    width: int
    depth: int
    size: int
    level: float
    few: bool
    init_scale: float
    output_scale: float
    input_scale: float
    num_rows: int
    noise: float
    fresh: bool


def choices_of(seed: int) -> Choices:
    """The choices of a seed; kinds come equally often over seeds, and each on images as often as on vectors."""
    rng = np.random.default_rng([23, seed])
    kind = KINDS[seed % len(KINDS)]
    images = (seed // len(KINDS) + seed) % 2 == 0
    inputs = "images" if images else INPUTS[1 + rng.integers(2)]
    network = _network(kind, images, rng)
    depth = 0 if network == "linear" else int(rng.choice([1, 2, 3]))
    if network == "conv":
        depth = min(depth, 2)
    if network == "tied" or kind in _TWO_NETWORKS:
        depth = min(depth, 1)
    return Choices(
        kind=kind,
        inputs=inputs,
        network=network,
        activation=ACTIVATIONS[rng.integers(len(ACTIVATIONS))],
        num_inputs=64 if images else int(rng.choice([8, 16, 32])),
        width=int(rng.choice([16, 24, 32, 48])),
        depth=depth,
        size=int(rng.choice([2, 4, 8])),
        level=float(rng.random()),
        few=bool(rng.random() < 0.5),
        init_scale=float(np.exp(rng.uniform(np.log(0.5), np.log(2)))),
        output_scale=float(rng.choice([0.1, 1.0])),
        input_scale=float(rng.choice([0.3, 1.0, 1.0, 2.0])),
        num_rows=int(rng.choice([256, 1024, 4096])),
        noise=float(rng.choice([0.05, 0.3, 0.6])),
        fresh=bool(rng.random() < 0.7),
    )


def _network(kind: str, images: bool, rng: np.random.Generator) -> str:
    """One that suits the kind; half of the small answers to images come from convolutions or plain layers."""
    if kind == "autoregressive":
        return "plain"
    names = ["plain", "batch_norm", "layer_norm", "residual"]
    if kind not in _NOT_LINEAR:
        names.append("linear")
    if kind in ("control", "temporal_difference"):
        # A state's value and action must not depend on which other states are in the batch.
        names.remove("batch_norm")
    if kind in ("denoising", "masked"):
        names += ["tied", "tied"]
    if images and kind not in _OF_VECTORS:
        names += ["conv", "conv"]
    return names[rng.integers(len(names))]
