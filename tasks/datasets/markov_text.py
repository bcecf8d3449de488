"""A language whose entropy is known: text from a random Markov chain of order 2. Nothing to download, and no natural
language is seen.

    p(x_t | x_{t-2}, x_{t-1}) = (1 - smoothing) S(x_t | class(x_{t-2}), x_{t-1}) + smoothing Z(x_t)

Symbols fall into classes. After a class and a symbol only `num_successors` symbols are likely, drawn by popularity with
random weights (S); Z is Zipf's law 1 / rank, and makes the chain ergodic. Frequencies, pairs and triples hold one more
piece of information each, as in natural text: a model passes `unigram_entropy` and `bigram_entropy` on its way to
`entropy_rate`, which no model beats. With pi the stationary distribution of pairs (power iteration in float64),

    entropy_rate = sum_{a, b} pi(a, b) H(p(. | a, b))       (Cover and Thomas, "Elements of Information Theory", ch. 4)
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, UInt8

from tasks.base import SPLITS, Data


class MarkovChain(NamedTuple):
    """A stationary chain of order 2 over V symbols; entropies in nats per symbol.

    Attributes:
      transitions: p(c | a, b) as [a, b, c], a before b before c.
      pair_probability: stationary probability of a followed by b.
      unigram_entropy: H(x_t), the loss of the best constant guess.
      bigram_entropy: H(x_t | x_{t-1}).
      entropy_rate: H(x_t | x_{t-2}, x_{t-1}).
    """

    transitions: Float[np.ndarray, "v v v"]
    pair_probability: Float[np.ndarray, "v v"]
    unigram_entropy: float
    bigram_entropy: float
    entropy_rate: float


def markov_chain(
    num_symbols: int = 32, num_classes: int = 4, num_successors: int = 4, smoothing: float = 0.02, seed: int = 0
) -> MarkovChain:
    """Draws a chain with its entropies.

    Args:
      num_symbols: V, at most 256.
      num_classes: classes of the symbol before the last.
      num_successors: likely symbols after each context.
      smoothing: probability of a symbol drawn by Zipf's law instead.
      seed: of the generator.

    Raises:
      ValueError: an argument outside its range.
    """
    if not 2 <= num_symbols <= 256:
        raise ValueError(f"num_symbols={num_symbols}: use 2 to 256, tokens are bytes")
    for name, value in (("num_classes", num_classes), ("num_successors", num_successors)):
        if not 1 <= value <= num_symbols:
            raise ValueError(f"{name}={value}: use 1 to num_symbols={num_symbols}")
    if not 0 < smoothing <= 1:
        raise ValueError(f"smoothing={smoothing}: use a probability above 0, or the chain may not be ergodic")
    rng = np.random.default_rng(seed)
    zipf = 1 / rng.permutation(np.arange(1.0, num_symbols + 1))
    zipf /= zipf.sum()
    likely = np.zeros((num_classes, num_symbols, num_symbols))
    for context in np.ndindex(num_classes, num_symbols):
        successors = rng.choice(num_symbols, num_successors, replace=False, p=zipf)
        likely[context][successors] = rng.dirichlet(np.ones(num_successors))
    symbol_class = rng.permutation(np.arange(num_symbols) % num_classes)
    return with_entropies(((1 - smoothing) * likely + smoothing * zipf)[symbol_class])


def with_entropies(transitions: Float[np.ndarray, "v v v"]) -> MarkovChain:
    """The stationary distribution and entropies of an ergodic chain p(c | a, b) [a, b, c].

    Raises:
      ValueError: the chain does not settle.
    """
    pairs = np.full(transitions.shape[:2], 1 / transitions.shape[0] ** 2)
    for _ in range(10_000):
        # One step leads from the pair (a, b) to the pair (b, c).
        following = np.einsum("ab,abc->bc", pairs, transitions)
        change = np.abs(following - pairs).sum()
        pairs = following / following.sum()
        if change < 1e-14:
            break
    else:
        raise ValueError(f"the chain has not settled after 10,000 steps (last change {change:.1e}): smooth it more")
    unigram, pair, triple = (_entropy(p) for p in (pairs.sum(0), pairs, pairs[..., None] * transitions))
    return MarkovChain(transitions, pairs, unigram, pair - unigram, triple - pair)


def loss_floor(chain: MarkovChain, length: int) -> float:
    """Least expected loss of a language model on rows of `length` tokens, in nats per predicted token.

    The first token is given; the second is predicted from one token, the others from two.

    Raises:
      ValueError: a length below 2.
    """
    if length < 2:
        raise ValueError(f"length={length}: use at least 2 tokens")
    return (chain.bigram_entropy + (length - 2) * chain.entropy_rate) / (length - 1)


def sample_text(
    chain: MarkovChain, num_rows: int, length: int, rng: np.random.Generator
) -> UInt8[np.ndarray, "rows length"]:
    """Independent rows of the stationary chain."""
    num_symbols = len(chain.transitions)
    pair = rng.choice(num_symbols**2, num_rows, p=chain.pair_probability.ravel())
    # Rounding may leave the last sum just below 1, and a draw above it.
    cumulative = np.cumsum(chain.transitions, axis=-1)[..., :-1]
    columns = [pair // num_symbols, pair % num_symbols]
    while len(columns) < length:
        draws = rng.random((num_rows, 1))
        columns.append(np.sum(cumulative[columns[-2], columns[-1]] <= draws, axis=1))
    return np.stack(columns[:length], axis=1).astype(np.uint8)


def markov_text(chain: MarkovChain, length: int = 33, num_rows: int = 8192, seed: int = 1) -> Data:
    """Text in four splits.

    Args:
      chain: the language.
      length: tokens of a row, one more than a model predicts.
      num_rows: rows of the training split; each of the others has an eighth.
      seed: of the generator; another seed is another text in the same language.

    Returns:
      `{split: {"tokens": uint8[N, length]}}`, NumPy arrays.

    Raises:
      ValueError: a length below 2, or fewer than 8 rows.
    """
    if length < 2:
        raise ValueError(f"length={length}: use at least 2 tokens")
    if num_rows < 8:
        raise ValueError(f"num_rows={num_rows}: use at least 8")
    rng = np.random.default_rng(seed)
    sizes = {split: num_rows if split == "train" else num_rows // 8 for split in SPLITS}
    return {split: {"tokens": sample_text(chain, size, length, rng)} for split, size in sizes.items()}


def _entropy(probability: np.ndarray) -> float:
    positive = probability[probability > 0]
    return float(-np.sum(positive * np.log(positive)))
