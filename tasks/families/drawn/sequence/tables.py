"""The fixed tables of drawn problems on sequences: automata, groups, Markov chains and binary operations."""

import numpy as np

from tasks.families.drawn.sequence.choices import GROUPS, Choices

_GENERATORS = {
    "s3": ((1, 0, 2), (1, 2, 0)),
    "d4": ((1, 2, 3, 0), (0, 3, 2, 1)),
    "q8": ((1, 2, 3, 0, 5, 6, 7, 4), (4, 7, 6, 5, 2, 1, 0, 3)),
    "d5": ((1, 2, 3, 4, 0), (0, 4, 3, 2, 1)),
    "a4": ((1, 2, 0, 3), (1, 0, 3, 2)),
}
"""Two permutations that generate each group; of the quaternions, the products with i and j from the right."""


def group_table(name: str) -> np.ndarray:
    """Products [order, order] of a group of `GROUPS`, its identity first: g h is g, then h."""
    elements = [tuple(range(len(_GENERATORS[name][0])))]
    for element in elements:
        for generator in _GENERATORS[name]:
            product = _then(element, generator)
            if product not in elements:
                elements.append(product)
    number = {element: i for i, element in enumerate(elements)}
    return np.array([[number[_then(g, h)] for h in elements] for g in elements], np.int32)


def automaton(choices: Choices, rng: np.random.Generator) -> np.ndarray:
    """The next state [states, letters] after a letter: at random, or the products with elements of a group.

    Two letters at least do not commute. Were all of them commuting permutations, the state would be a sum in an abelian
    group, which is modular arithmetic.
    """
    states, letters = choices.parts, choices.symbols
    if choices.variant in GROUPS:
        products = group_table(choices.variant)
    while True:
        if choices.variant in GROUPS:
            table = products[:, rng.choice(states, letters, replace=False)]
        else:
            table = rng.integers(states, size=(states, letters))
        after = table[table]  # [state, first letter, second letter]
        if np.any(after != np.swapaxes(after, 1, 2)) and len(np.unique(table)) > 2:
            return table.astype(np.int32)


def chain(choices: Choices, rng: np.random.Generator) -> np.ndarray:
    """Cumulative probabilities [symbols^order, symbols] of the next token of a Markov chain."""
    order = 2 if choices.variant == "markov2" else 1
    logits = rng.choice([1.5, 3.0]) * rng.standard_normal((choices.symbols**order, choices.symbols))
    probabilities = np.exp(logits - logits.max(1, keepdims=True))
    return np.cumsum(probabilities / probabilities.sum(1, keepdims=True), axis=1).astype(np.float32)


def operation(choices: Choices, rng: np.random.Generator) -> np.ndarray:
    """Answers [elements, elements] of a binary operation: drawn one by one, a group's, or those of a low rank.

    Of a low rank: the class c with the largest sum_r u_ar v_br w_rc, of rank 2.
    """
    n, classes = choices.parts, choices.num_outputs
    if choices.variant in GROUPS:
        return group_table(choices.variant)
    if choices.variant == "random":
        return rng.integers(classes, size=(n, n)).astype(np.int32)
    u, v, w = rng.standard_normal((n, 2)), rng.standard_normal((n, 2)), rng.standard_normal((2, classes))
    return np.argmax(np.einsum("ar,br,rc->abc", u, v, w), axis=-1).astype(np.int32)


def _then(first: tuple[int, ...], second: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(second[i] for i in first)
