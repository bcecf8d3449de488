"""Token selection by one layer of attention, whose weights turn towards a support vector machine.

    f(X, z) = c sum_t a_t x_t[0],   a = softmax(X W z),   loss = mean log(1 + exp(-y f(X, z)))

An example is T tokens x_t in R^d, a query z and a label y = +-1. One token is relevant: its entry 0 is y, and that of
the others is 0, so that the loss falls as attention turns to it. Only W [d, d] is trained. Its norm grows without
bound, and under gradient descent its direction becomes that of the hard-margin problem over the training set

    W_svm = argmin |W|_F   subject to   (x_relevant - x_t)^T W z >= 1   for every other token t

(Ataee Tarzanagh, Li, Thrampoulidis & Oymak 2023, "Transformers as Support Vector Machines", arXiv 2308.16898; tokens of
one value beside the relevant one are a case where this holds from any start). Minibatches are this file's choice, and
so is what makes a token relevant, the largest x_t^T W* z for a hidden W* (seed 0), which leaves something to
generalise.

Metrics: `max_margin_cosine`, the cosine of W and W_svm, a function of W alone; `selection_accuracy`, the share of
examples whose largest weight is that of the relevant token.
"""

import math
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from tasks.base import SPLITS, Batch, Data, Params, Task, TaskConfig, TaskFamily
from tasks.batches import sample_rows, split_of, whole_rows

VALUE = 3.0
"""c: the loss of perfect attention is log(1 + e^-3) = 0.049."""

MIN_GAP = 0.5
"""Examples whose two best tokens are closer than this under W* are not used, else a few of them would make the margin
tiny. W* has independent N(0, 1/d) entries."""

INIT_SCALE = 0.1


def attention_svm(
    num_tokens: int = 5, num_features: int = 8, num_train: int = 64, name: str = "attention_svm"
) -> TaskFamily:
    """Attend to the relevant token.

    Args:
      num_tokens: T.
      num_features: d.
      num_train: training examples; the other splits have 512 each.
      name: the family's name.

    Raises:
      ValueError: fewer than two tokens or features, or no example.
    """
    if num_tokens < 2 or num_features < 2 or num_train < 1:
        raise ValueError(f"{num_tokens=}, {num_features=}, {num_train=}: use at least 2, 2 and 1")
    data = selection_data(num_tokens, num_features, num_train)
    solution = max_margin(margins_of(data["train"])).reshape(num_features, num_features).astype(np.float32)

    def sample(key: jax.Array) -> TaskConfig:
        del key
        return {"max_margin": jnp.asarray(solution)}

    def task(task_config: TaskConfig, data: Data) -> Task:
        def init(key: jax.Array) -> Params:
            return {"key_query": INIT_SCALE * jax.random.normal(key, (num_features, num_features), jnp.float32)}

        def attention(params: Params, batch: Batch) -> Float[Array, "batch tokens"]:
            return jax.nn.softmax(jnp.einsum("bti,bi->bt", batch["tokens"], batch["query"] @ params["key_query"].T))

        def mean_loss(attention: Float[Array, "batch tokens"], batch: Batch) -> Float[Array, ""]:
            values = jnp.sum(attention * batch["tokens"][..., 0], axis=1)
            return jnp.mean(jax.nn.softplus(-VALUE * values * batch["label"].astype(values.dtype)))

        def loss(params: Params, key: jax.Array, batch: Batch) -> Float[Array, ""]:
            del key
            return mean_loss(attention(params, batch), batch)

        def sample_batch(key: jax.Array, split: str, batch_shape: tuple[int, ...]) -> Batch:
            return sample_rows(key, split_of(data, split), batch_shape)

        def metrics(params: Params, batch: Batch) -> dict[str, Float[Array, ""]]:
            a, w = attention(params, batch), params["key_query"]
            svm = task_config["max_margin"].astype(w.dtype)
            hits = jnp.argmax(a, axis=1) == batch["relevant"]
            return {
                "loss": mean_loss(a, batch),
                "max_margin_cosine": jnp.sum(w * svm) / (jnp.linalg.norm(w) * jnp.linalg.norm(svm)),
                "selection_accuracy": jnp.mean(hits.astype(jnp.float32)),
            }

        return Task(init, loss, sample_batch, metrics)

    # The best constant guess knows only that both labels are equally likely: output 0.
    return TaskFamily(name, data, sample, task, math.log(2), whole_rows)


def selection_data(num_tokens: int, num_features: int, num_train: int) -> Data:
    """Gaussian tokens and queries; examples with too small a gap between the two best tokens are drawn again."""
    rng = np.random.default_rng(0)
    hidden = rng.standard_normal((num_features, num_features)) * num_features**-0.5
    data = {}
    for split in SPLITS:
        size = num_train if split == "train" else 512
        rows: dict[str, list[np.ndarray]] = {"tokens": [], "query": [], "relevant": []}
        while sum(map(len, rows["query"])) < size:
            tokens = rng.standard_normal((size, num_tokens, num_features))
            tokens[..., 0] = 0
            query = rng.standard_normal((size, num_features))
            scores = np.einsum("nti,ij,nj->nt", tokens, hidden, query)
            ranked = np.sort(scores, axis=1)
            clear = ranked[:, -1] - ranked[:, -2] >= MIN_GAP
            for leaf, value in (("tokens", tokens), ("query", query), ("relevant", scores.argmax(1))):
                rows[leaf].append(value[clear])
        tokens, query, relevant = (np.concatenate(parts)[:size] for parts in rows.values())
        label = rng.choice([-1, 1], size)
        tokens[np.arange(size), relevant, 0] = label
        data[split] = {
            "tokens": tokens.astype(np.float32),
            "query": query.astype(np.float32),
            "relevant": relevant.astype(np.int32),
            "label": label.astype(np.int32),
        }
    return data


def margins_of(examples: Mapping[str, np.ndarray]) -> Float[np.ndarray, "constraints weights"]:
    """Row c is the vector a with a . vec(W) = (x_relevant - x_t)^T W z, for every example and other token."""
    tokens, query = examples["tokens"].astype(np.float64), examples["query"].astype(np.float64)
    n, num_tokens, _ = tokens.shape
    best = tokens[np.arange(n), examples["relevant"]]
    others = np.arange(num_tokens)[None] != examples["relevant"][:, None]
    rows = np.einsum("nti,nj->ntij", best[:, None] - tokens, query)[others]
    return rows.reshape(len(rows), -1)


def max_margin(constraints: Float[np.ndarray, "constraints weights"]) -> Float[np.ndarray, "weights"]:
    """argmin |w| subject to constraints @ w >= 1.

    As the least-distance problem of Lawson & Hanson (1974, "Solving Least Squares Problems", chapter 23): the
    residual r of min |E u - f| over u >= 0 with E = [constraints^T; 1 ... 1] and f = [0; 1] is (w, -1) up to scale.
    Their active-set method solves it: the entry of u with the steepest descent is set free, and entries that would turn
    negative are set back to 0.

    Raises:
      ValueError: no w satisfies the constraints.
    """
    e = np.concatenate([constraints.T, np.ones((1, len(constraints)))])
    f = np.zeros(len(e))
    f[-1] = 1
    u, free = np.zeros(len(constraints)), np.zeros(len(constraints), bool)
    while True:
        slope = np.where(free, -np.inf, e.T @ (f - e @ u))
        if slope.max() < 1e-10:
            break
        free[slope.argmax()] = True
        while (wanted := _least_squares(e, f, free))[free].min() <= 0:
            falling = free & (wanted <= 0)
            step = (u[falling] / (u[falling] - wanted[falling])).min()
            u = u + step * (wanted - u)
            free &= u > 1e-12
            u[~free] = 0
        u = wanted
    residual = e @ u - f
    if np.linalg.norm(residual) < 1e-6:
        raise ValueError(f"{len(constraints)} constraints: no weights satisfy all of them, use fewer examples")
    return -residual[:-1] / residual[-1]


def _least_squares(e: np.ndarray, f: np.ndarray, free: np.ndarray) -> np.ndarray:
    u = np.zeros(len(free))
    u[free] = np.linalg.lstsq(e[:, free], f, rcond=None)[0]
    return u
