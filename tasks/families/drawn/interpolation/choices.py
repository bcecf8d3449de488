"""What a drawn problem of interpolation consists of (`sampled_interpolation`)."""

from typing import NamedTuple

import numpy as np

MODELS = (
    "features",
    "deep_linear",
    "homogeneous",
    "diagonal",
    "normalised",
    "embeddings",
    "first_layer",
    "convolution",
    "experts",
    "maxout",
)
LOSSES = ("logistic", "squared", "softmax", "squared_hinge", "polynomial")
LINEAR = ("deep_linear", "diagonal")
"""Models that are linear in the inputs."""
SMOOTH = ("tanh", "gelu", "silu", "elu")
SIGNS = ("logistic", "squared_hinge", "polynomial")
"""Losses of scores and signs."""
SHAPES = ("rings", "moons", "links")


class Choices(NamedTuple):
    """What a seed decides.

    Attributes:
      model: one of `MODELS`.
      loss: one of `LOSSES`.
      data: "classes", "planted", "tree", "shapes", "labels", "teacher" or "relations"; see `rows`.
      shape: one of `SHAPES`, for data of that kind.
      num_rows: training examples.
      num_inputs: dimensions of an input; of relations, the entities.
      num_classes: classes, or dimensions of an answer; of relations, the number of them.
      num_outputs: scores of the model; one for two classes told apart by a sign.
      rank: hidden units, dimensions or directions that the truth has.
      width, depth: units of a hidden layer, and layers with parameters (of "diagonal", the power).
      pieces: experts, pieces of maxout, or entries of a filter.
      activation: of models that have one.
      init_scale: size of the scores at the start, from 0.01 (rich) to 2 (lazy).
      input_scale: root mean square of the inputs.
      spectrum: alpha of the inputs' variances i^-alpha, or of the features' sizes by their degree.
      margin: between classes, as a part of the distance of their centres.
      noise: standard deviation of the answers' noise over that of the answers; the share of labels drawn anew.
      tail: a of the loss (1 + margin)^-a.
    """

    model: str
    loss: str
    data: str
    shape: str
    num_rows: int
    num_inputs: int
    num_classes: int
    num_outputs: int
    rank: int
    width: int
    depth: int
    pieces: int
    activation: str
    init_scale: float
    input_scale: float
    spectrum: float
    margin: float
    noise: float
    tail: float


def choices_of(seed: int) -> Choices:
    """The choices of a seed; ten seeds in a row have every model once, fifty every model with every loss."""
    rng = np.random.default_rng([23, seed])

    def one_of(values):
        return values[rng.integers(len(values))]

    model, loss = MODELS[seed % 10], LOSSES[(seed + seed // 10) % 5]
    data = one_of(_kinds_of_data(model, loss))
    num_inputs = {"shapes": 3, "tree": one_of((16, 32)), "relations": one_of((10, 16, 24))}.get(data)
    num_inputs = num_inputs or one_of((16, 32, 64))
    rows = {"tree": num_inputs, "teacher": num_inputs, "labels": one_of((16, 32, 64, 96))}.get(data)
    if data == "labels" and model in LINEAR:
        rows = one_of((16, num_inputs))
    rows = rows or one_of((32, 64, 128, 256, 512))
    shape, classes = one_of(SHAPES), one_of((2, 3, 4, 8))
    if data == "shapes":
        classes = one_of((2, 3, 4)) if shape == "rings" else 2
    elif data == "tree":
        classes = one_of((8, 16, 24))
    if model == "features":
        # One linear map and the logistic loss of two classes would be a held-out family.
        shape, classes = "rings", max(classes, 3)
    outputs = 1 if classes == 2 and loss != "softmax" else classes
    if data == "relations":
        classes = one_of((2, 3, 5))
        outputs = num_inputs if loss == "softmax" else 1
        # Three quarters of the table at most: the other splits have the rest.
        table = classes * (num_inputs if loss == "softmax" else num_inputs**2)
        rows = max(16, min(rows, 3 * table // 4))
    return Choices(
        model=model,
        loss=loss,
        data=data,
        shape=shape if data == "shapes" else "",
        num_rows=int(rows),
        num_inputs=num_inputs,
        num_classes=classes,
        num_outputs=outputs,
        rank=one_of((1, 2, 3, 4)),
        width=one_of((16, 24, 32, 48)),
        depth={"deep_linear": one_of((3, 4, 5)), "diagonal": one_of((2, 3, 4))}.get(model) or one_of((2, 3)),
        pieces=one_of((3, 4, 5)),
        activation=one_of(SMOOTH),
        init_scale=float(np.exp(rng.uniform(np.log(0.01), np.log(2)))),
        input_scale=one_of((0.3, 1.0, 1.0, 2.0)),
        spectrum=float(rng.uniform(0, 1.5)),
        margin=one_of((0.05, 0.2, 0.4)),
        noise=one_of((0.0, 0.0, 0.0, 0.0, 0.05)),
        tail=one_of((1.0, 2.0, 4.0)),
    )


def _kinds_of_data(model: str, loss: str) -> tuple[str, ...]:
    """What a model can fit and a loss can be taken of."""
    if model == "embeddings":
        return ("relations",)
    kinds = ("classes", "planted", "labels")
    kinds += () if loss == "softmax" or model == "features" else ("tree",)
    if model in LINEAR:
        return kinds
    # Of three numbers a convolution makes nothing.
    return (*kinds, "teacher") if model == "convolution" else (*kinds, "teacher", "shapes")
