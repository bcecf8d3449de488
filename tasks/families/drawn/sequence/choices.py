"""What a problem on sequences that is drawn at random consists of (`sampled_sequence`)."""

from typing import NamedTuple

import numpy as np

KINDS = ("recall", "automaton", "neighbours", "rewrite", "count", "chain", "table", "curve")
NETWORKS = ("transformer", "convolution", "attention", "elman", "concatenated", "gated", "mean")
LOSSES = ("cross_entropy", "squared", "smoothed", "hinge")
GROUPS = {"s3": 6, "d4": 8, "q8": 8, "d5": 10, "a4": 12}
"""Groups in which not all products commute, and their orders."""
ATTENTION = ("transformer", "attention")


class Choices(NamedTuple):
    """What a seed decides.

    Attributes:
      kind: one of `KINDS`.
      variant: which problem of that kind.
      network: one of `NETWORKS`.
      loss: one of `LOSSES`; "squared" for curves.
      activation: of hidden units where the network does not fix it.
      length: positions of a sequence.
      symbols: different tokens, or dimensions of a point, as the kind has it.
      parts: pairs, states, classes, tokens to rewrite, period, elements or waves, as the kind has it.
      num_inputs: numbers that enter the network at each position, where tokens are unit vectors.
      num_outputs: classes, or 1.
      num_answers: positions, the last ones, that have an answer.
      width, depth, heads: units of a hidden layer, number of layers, heads of attention.
      normalised: whether blocks begin with a norm.
      causal: whether attention looks back only.
      pooled: whether the answer is read from the mean over positions rather than from the last one.
      init_scale: factor on the initial matrices.
      output_scale: another on the last one.
      num_rows: training sequences; of a table, what `share` of all pairs comes to.
      fresh: whether training sequences are drawn anew from the key.
      noise: share of answers, or of a periodic pattern's tokens, drawn anew; of a curve, its noise.
      spread: of points about their class's centre; largest frequency of a curve.
      share: part of a table's pairs that is for training.
    """

    kind: str
    variant: str
    network: str
    loss: str
    activation: str
    length: int
    symbols: int
    parts: int
    num_inputs: int
    num_outputs: int
    num_answers: int
    width: int
    depth: int
    heads: int
    normalised: bool
    causal: bool
    pooled: bool
    init_scale: float
    output_scale: float
    num_rows: int
    fresh: bool
    noise: float
    spread: float
    share: float


def choices_of(seed: int) -> Choices:
    """The choices of a seed; over 56 seeds every kind meets every network, over 32 seeds every loss."""
    rng = np.random.default_rng([23, seed])
    place, turn = seed % len(KINDS), seed // len(KINDS)
    kind, network = KINDS[place], NETWORKS[(turn + place) % len(NETWORKS)]
    loss = "squared" if kind == "curve" else LOSSES[(turn + place // 2) % len(LOSSES)]
    sizes = _sizes(kind, network, rng)
    depth = int(rng.choice([1, 2]))
    # One convolution sees three positions, two of them nine.
    depth = 2 if network == "convolution" else depth
    # Work of a gradient grows with positions times weights; these have most at each position.
    depth = 1 if network in (*ATTENTION, "gated") and sizes["length"] > 9 else depth
    wide = sizes["length"] <= 9 and depth == 1 or network in ("concatenated", "mean", "elman")
    rows = int(rng.choice([256, 1024, 8192]))
    share = float(rng.choice([0.4, 0.6, 0.9]))
    fresh = kind != "table" and bool(rng.random() < 0.5)
    if kind == "table":
        rows = round(share * sizes["parts"] ** 2)
    return Choices(
        kind=kind,
        network=network,
        loss=loss,
        activation=str(rng.choice(["relu", "tanh", "gelu", "silu"])),
        width=int(rng.choice([16, 24, 32] if wide else [16, 20])),
        depth=depth,
        heads=int(rng.choice([1, 2])),
        normalised=bool(rng.random() < 0.5),
        causal=kind == "chain" or bool(rng.random() < 0.5),
        pooled=kind in ("count", "curve", "table") and sizes["num_answers"] == 1 and bool(rng.random() < 0.5),
        init_scale=float(np.exp(rng.uniform(np.log(0.5), np.log(1.5)))),
        output_scale=float(rng.choice([0.1, 1.0])),
        num_rows=rows,
        fresh=fresh,
        noise=float(rng.choice([0.0, 0.0, 0.05, 0.2])),
        spread=float(rng.choice([0.2, 0.4]) if kind == "neighbours" else rng.choice([0.4, 0.8])),
        share=share,
        **sizes,
    )


def _sizes(kind: str, network: str, rng: np.random.Generator) -> dict:
    """variant, length, symbols, parts, num_inputs, num_outputs and num_answers."""

    def sizes(variant, length, symbols, parts, num_inputs, num_outputs, num_answers=1):
        numbers = [int(n) for n in (length, symbols, parts, num_inputs, num_outputs, num_answers)]
        names = ("length", "symbols", "parts", "num_inputs", "num_outputs", "num_answers")
        return {"variant": str(variant)} | dict(zip(names, numbers, strict=True))

    # These see all of the sequence at once: no next tokens for them but the last.
    whole = network in ("concatenated", "mean")
    everywhere = bool(rng.random() < 0.5)
    if kind == "recall":
        variant, pairs, symbols = rng.choice(["joint", "interleaved"]), rng.choice([2, 3, 4]), rng.choice([4, 8])
        length = pairs + 1 if variant == "joint" else 2 * pairs + 1
        return sizes(variant, length, symbols, pairs, 2 * symbols + 1, symbols)
    if kind == "automaton":
        variant = rng.choice(["any", "any", "s3", "d4", "q8"])
        states = GROUPS.get(str(variant)) or rng.choice([3, 4, 6])
        letters, length = rng.choice([2, 3, 4]), rng.choice([3, 5, 8] if variant == "any" else [3, 4, 6])
        return sizes(variant, length, letters, states, letters, states, length if everywhere else 1)
    if kind == "neighbours":
        dims, classes, labels = rng.choice([2, 4]), rng.choice([2, 3]), rng.choice([4, 5, 6])
        return sizes("points", rng.choice([6, 8, 10]), dims, classes, dims + labels, labels)
    if kind == "rewrite":
        tokens, symbols = rng.choice([2, 3, 4, 5]), rng.choice([4, 6, 8])
        return sizes(rng.choice(["copy", "reverse", "sort"]), 2 * tokens, symbols, tokens, symbols + 1, symbols, tokens)
    if kind == "count":
        variant, length, symbols = rng.choice(["count", "majority"]), rng.choice([6, 9, 14]), rng.choice([2, 3, 5])
        if variant == "majority":
            return sizes(variant, length, symbols, 1, symbols, symbols)
        return sizes(variant, length, symbols, 1, symbols, 8 if length > 6 else 7, length if everywhere else 1)
    if kind == "chain":
        variant, length = rng.choice(["markov1", "markov2", "periodic"]), rng.choice([6, 9, 12])
        symbols, period = rng.choice([4, 6, 8]), rng.choice([2, 3, 4])
        return sizes(variant, length, symbols, period, symbols, symbols, length if everywhere and not whole else 1)
    if kind == "table":
        variant = str(rng.choice(["random", "low_rank", "d4", "q8", "d5", "a4"], p=[0.25, 0.25] + 4 * [0.125]))
        elements = GROUPS.get(variant) or int(rng.choice([8, 12, 20]))
        return sizes(variant, 2, 1, elements, 2 * elements, GROUPS.get(variant) or rng.choice([2, 4, 8]))
    return sizes(rng.choice(["anywhere", "middle", "end"]), rng.choice([6, 10, 16]), 1, rng.choice([1, 2, 3]), 2, 1)
