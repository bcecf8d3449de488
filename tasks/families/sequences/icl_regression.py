"""In-context linear regression with one layer of linear attention, whose optimum is known in closed form.

A prompt is n labelled pairs and a query, with its own regression weights w:

    w ~ N(0, I / d),   x_i ~ N(0, Lambda),   y_i = w . x_i + noise_i,   tr(Lambda) = d
    tokens e_i = (x_i, y_i), e_q = (x_q, 0)
    prediction = 1/n sum_j (v . e_j) (e_j^T W x_q),   loss = mean (prediction - y_q)^2

This is the label entry of the query token after E + W_PV E (E^T W_KQ E) / n (Zhang, Frei and Bartlett 2023, arXiv
2306.09927). Only the last row v of W_PV enters it, and the last column of W_KQ meets the zero of e_q, so the parameters
are v [d + 1] and the other columns W [d + 1, d]. Over all of them the least expected loss is that of one preconditioned
gradient step from zero (Zhang et al.; Mahankali, Hashimoto and Ma 2023, arXiv 2307.03576, for Lambda = I with noise):

    prediction = x_q^T P (1/n sum_i y_i x_i),   P^-1 = (1 + 1/n) Lambda + (tr(Lambda) + d noise^2) / n I

The best of all predictors is ridge regression with penalty d noise^2, the mean of the posterior. `metrics` has the gap
of the loss to either of the two on the same prompts.

Each task has its own diagonal Lambda, in the configuration; the prompts are fixed (seed 0) and whitened.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from tasks.base import SPLITS, Batch, Data, Params, Task, TaskConfig, TaskFamily
from tasks.batches import sample_rows, split_of, whole_rows

NUM_PROMPTS = {"train": 2048, "inner_valid": 512, "outer_valid": 512, "test": 512}
INIT_SCALE = 0.5


def optimal_preconditioner(variances: Float[Array, " d"], num_pairs: int, noise_std: float) -> Float[Array, " d"]:
    """Diagonal of P, given that of Lambda."""
    d = variances.shape[0]
    return 1 / ((1 + 1 / num_pairs) * variances + (jnp.sum(variances) + d * noise_std**2) / num_pairs)


def optimal_step_loss(variances: Float[Array, " d"], num_pairs: int, noise_std: float) -> Float[Array, ""]:
    """Expected loss of the optimal preconditioned step: noise^2 + tr(Lambda - Lambda P Lambda) / d."""
    p = optimal_preconditioner(variances, num_pairs, noise_std)
    return noise_std**2 + jnp.mean(variances * (1 - p * variances))


def one_step_prediction(
    preconditioner: Float[Array, " d"],
    x: Float[Array, "batch pairs d"],
    y: Float[Array, "batch pairs"],
    query: Float[Array, "batch d"],
) -> Float[Array, " batch"]:
    """x_q^T P (1/n sum_i y_i x_i)."""
    direction = jnp.einsum("bi,bij->bj", y, x) / x.shape[1]
    return (direction * query) @ preconditioner


def ridge_prediction(
    penalty: float, x: Float[Array, "batch pairs d"], y: Float[Array, "batch pairs"], query: Float[Array, "batch d"]
) -> Float[Array, " batch"]:
    """x_q^T (X^T X + penalty I)^-1 X^T y, by Gauss-Jordan elimination.

    The matrix is positive definite, so no pivoting is needed.
    """
    d = x.shape[-1]
    gram = jnp.einsum("bij,bik->bjk", x, x) + penalty * jnp.eye(d, dtype=x.dtype)[None]
    system = jnp.concatenate([gram, jnp.einsum("bi,bij->bj", y, x)[..., None]], axis=-1)

    def eliminate(k: jax.Array, system: jax.Array) -> jax.Array:
        pivot_row = system[:, k] / system[:, k, k, None]
        return (system - system[:, :, k, None] * pivot_row[:, None]).at[:, k].set(pivot_row)

    return jnp.sum(query * jax.lax.fori_loop(0, d, eliminate, system)[..., -1], axis=-1)


def icl_regression(
    num_features: int = 8,
    num_pairs: int = 16,
    noise_std: float = 0.25,
    max_spread: float = 4.0,
    name: str = "icl_regression",
) -> TaskFamily:
    """Train one layer of linear attention to regress in context.

    Args:
      num_features: d.
      num_pairs: labelled pairs in a prompt, n.
      noise_std: standard deviation of the labels' noise, positive (the labels' own is 1).
      max_spread: the eigenvalues of Lambda are log-uniform over a factor of `max_spread` before they are scaled to
        mean 1; with 1 all inputs are white.
      name: the family's name.

    Raises:
      ValueError: no feature, no pair, no noise, or a spread below 1.
    """
    if num_features < 1 or num_pairs < 1:
        raise ValueError(f"num_features={num_features}, num_pairs={num_pairs}: use at least 1 of each")
    if noise_std <= 0:
        raise ValueError(f"noise_std={noise_std}: use a positive value, without which ridge has no penalty")
    if max_spread < 1:
        raise ValueError(f"max_spread={max_spread}: use a factor of at least 1")

    def sample(key: jax.Array) -> TaskConfig:
        variances = max_spread ** jax.random.uniform(key, (num_features,), jnp.float32)
        return {"variances": variances / jnp.mean(variances)}

    def task(task_config: TaskConfig, data: Data) -> Task:
        def prompts(batch: Batch) -> tuple[jax.Array, jax.Array]:
            """Inputs [B, n + 1, d] and labels [B, n + 1], the query last."""
            x = (
                batch["white_inputs"]
                * jnp.sqrt(task_config["variances"].astype(batch["white_inputs"].dtype))[None, None]
            )
            return x, jnp.einsum("bij,bj->bi", x, batch["weights"]) + noise_std * batch["white_noise"]

        def init(key: jax.Array) -> Params:
            value_key, key_query_key = jax.random.split(key)
            scale = INIT_SCALE * (num_features + 1) ** -0.5
            return {
                "value": scale * jax.random.normal(value_key, (num_features + 1,), jnp.float32),
                "key_query": scale * jax.random.normal(key_query_key, (num_features + 1, num_features), jnp.float32),
            }

        def predict(params: Params, x: jax.Array, y: jax.Array) -> Float[Array, " batch"]:
            query = x[:, -1]
            labels = jnp.concatenate([y[:, :-1], jnp.zeros_like(y[:, :1])], axis=1)
            tokens = jnp.concatenate([x, labels[..., None]], axis=-1)
            scores = jnp.einsum("bij,bj->bi", tokens, query @ params["key_query"].T)
            return jnp.sum((tokens @ params["value"]) * scores, axis=1) / num_pairs

        def loss(params: Params, key: jax.Array, batch: Batch) -> Float[Array, ""]:
            del key
            x, y = prompts(batch)
            return jnp.mean((predict(params, x, y) - y[:, -1]) ** 2)

        def sample_batch(key: jax.Array, split: str, batch_shape: tuple[int, ...]) -> Batch:
            return sample_rows(key, split_of(data, split), batch_shape)

        def metrics(params: Params, batch: Batch) -> dict[str, Float[Array, ""]]:
            x, y = prompts(batch)
            context = x[:, :-1], y[:, :-1], x[:, -1]
            variances = task_config["variances"].astype(x.dtype)
            step = one_step_prediction(optimal_preconditioner(variances, num_pairs, noise_std), *context)
            ridge = ridge_prediction(num_features * noise_std**2, *context)
            mine, of_step, of_ridge = (jnp.mean((p - y[:, -1]) ** 2) for p in (predict(params, x, y), step, ridge))
            return {"loss": mine, "gap_to_optimal_step": mine - of_step, "gap_to_ridge": mine - of_ridge}

        return Task(init, loss, sample_batch, metrics)

    # The best constant guess is 0; labels have variance tr(Lambda) / d + noise^2.
    data = white_prompts(num_features, num_pairs)
    return TaskFamily(name, data, sample, task, 1 + noise_std**2, whole_rows)


def white_prompts(num_features: int, num_pairs: int) -> Data:
    """Prompts of n pairs and a query before inputs and noise are scaled."""
    rng = np.random.default_rng(0)

    def draw(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape, np.float32)

    return {
        split: {
            "white_inputs": draw(NUM_PROMPTS[split], num_pairs + 1, num_features),
            "white_noise": draw(NUM_PROMPTS[split], num_pairs + 1),
            "weights": draw(NUM_PROMPTS[split], num_features) * np.float32(num_features**-0.5),
        }
        for split in SPLITS
    }
