"""Wrappers that turn a task family into a harder or more varied one; they compose.

- reparametrisation: loss'(p) = loss(c * p), p_0 = params_0 / c (Metz et al. 2022, arXiv 2203.11860, section on task
  augmentation)
- reduced batches: a training batch of B holds only B / 2^s different examples
- label noise: a fixed share of the training labels is drawn anew, uniformly (Zhang et al. 2017, arXiv 1611.03530)
- Dirichlet workers: worker k draws its labels from q_k ~ Dirichlet(alpha * prior) (Hsu et al. 2019, arXiv 1909.06335)
- gradient noise: gradient + N(0, std^2); the loss keeps its value
- dtype: parameters, batches and arithmetic in another float type

What varies from task to task is drawn into the task configuration, which wraps the inner family's: `{"inner": ...}`
beside the wrapper's own arrays. Training is altered, measurement is not: held-out splits, `metrics` and `eval_batch`
stay those of the inner family, but for the parametrisation and the type.
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from tasks.base import Batch, Data, Params, Task, TaskConfig, TaskFamily, samples_nothing
from tasks.batches import gather_images

TRAIN = "train"
REDUCED_BATCHES, LABEL_NOISE = "reduced_batches", "label_noise"


def with_reparametrisation(
    family: TaskFamily, scale: tuple[float, float] = (1e-3, 1e3), per_tensor: bool = False
) -> TaskFamily:
    """Parameters divided by a scale c, log-uniform in `scale`, and multiplied by it again in the loss.

    An optimizer that is invariant to the scale of its parameters trains every such task alike; gradients are
    multiplied by c.

    Args:
      family: what is wrapped.
      scale: lowest and highest c.
      per_tensor: one c for each tensor rather than one for all.

    Raises:
      ValueError: unless 0 < lowest <= highest.
    """
    _check_log_range("scale", scale)
    low, high = math.log(scale[0]), math.log(scale[1])
    num_tensors = _num_tensors(family) if per_tensor else 1

    def scaled(params: Params, log_scale: Float[Array, "tensors"], sign: float) -> Params:
        leaves, treedef = jax.tree.flatten(params)
        factors = jnp.exp(sign * jnp.broadcast_to(log_scale, (len(leaves),)))
        return treedef.unflatten(
            [factor.astype(leaf.dtype) * leaf for factor, leaf in zip(factors, leaves, strict=True)]
        )

    def change(inner: Task, config: TaskConfig, data: Data) -> Task:
        del data
        log_scale = config["log_scale"]
        return inner._replace(
            init=lambda key: scaled(inner.init(key), log_scale, -1.0),
            loss=lambda params, key, batch: inner.loss(scaled(params, log_scale, 1.0), key, batch),
            metrics=lambda params, batch: inner.metrics(scaled(params, log_scale, 1.0), batch),
        )

    def draw(key: jax.Array) -> TaskConfig:
        return {"log_scale": jax.random.uniform(key, (num_tensors,), minval=low, maxval=high)}

    return _wrapped(family, "reparam_per_tensor" if per_tensor else "reparam", draw, change)


def with_reduced_batches(family: TaskFamily, max_halvings: int = 4) -> TaskFamily:
    """Training batches of B / 2^s different examples, each repeated 2^s times; s uniform in 0..max_halvings.

    Shapes stay, so all sizes share one compiled program. Where 2^s does not divide B, or exceeds it, the batch
    holds max(1, floor(B / 2^s)) examples, repeated as evenly as they go.

    Raises:
      ValueError: max_halvings below 0.
    """
    if max_halvings < 0:
        raise ValueError(f"max_halvings={max_halvings}: use at least 0")

    def change(inner: Task, config: TaskConfig, data: Data) -> Task:
        del data

        def sample_batch(key: jax.Array, split: str, batch_shape: tuple[int, ...]) -> Batch:
            batch = inner.sample_batch(key, split, batch_shape)
            if split != TRAIN or not batch_shape:
                return batch
            kept = jnp.maximum(batch_shape[-1] // 2 ** config["halvings"], 1)
            index = jnp.arange(batch_shape[-1]) % kept
            return jax.tree.map(lambda x: jnp.take(x, index, axis=len(batch_shape) - 1), batch)

        return inner._replace(sample_batch=sample_batch)

    def draw(key: jax.Array) -> TaskConfig:
        return {"halvings": jax.random.randint(key, (), 0, max_halvings + 1)}

    return _wrapped(family, REDUCED_BATCHES, draw, change)


def with_label_noise(family: TaskFamily, rate: tuple[float, float] = (0.0, 0.5)) -> TaskFamily:
    """A share of the training labels, uniform in `rate`, is replaced by uniform draws; which and by what is fixed
    for a task.

    Args:
      family: one whose training split holds `label`, the class of each example.
      rate: lowest and highest share; a redrawn label may be the old one.

    Raises:
      ValueError: no labels, or a rate outside [0, 1].
    """
    if not 0 <= rate[0] <= rate[1] <= 1:
        raise ValueError(f"rate={rate}: use 0 <= lowest <= highest <= 1")
    num_classes = len(_class_counts(family))

    def change(inner: Task, config: TaskConfig, data: Data) -> Task:
        del inner
        labels = jnp.asarray(data[TRAIN]["label"])
        chosen_key, label_key = jax.random.split(jax.random.wrap_key_data(config["noise_key"]))
        redrawn = jax.random.uniform(chosen_key, labels.shape) < config["rate"]
        noise = jax.random.randint(label_key, labels.shape, 0, num_classes).astype(labels.dtype)
        noisy = {**data[TRAIN], "label": jnp.where(redrawn, noise, labels)}
        return family.task(config["inner"], {**data, TRAIN: noisy})

    def draw(key: jax.Array) -> TaskConfig:
        rate_key, noise_key = jax.random.split(key)
        return {
            "rate": jax.random.uniform(rate_key, minval=rate[0], maxval=rate[1]),
            "noise_key": jax.random.key_data(noise_key),
        }

    return _wrapped(family, LABEL_NOISE, draw, change)


def with_dirichlet_workers(family: TaskFamily, alpha: float, num_workers: int) -> TaskFamily:
    """Workers whose training examples differ in their labels.

    For each task, worker k draws q_k ~ Dirichlet(alpha * class frequencies * classes); for every example it draws a
    class from q_k, then one of the class's training examples. alpha -> infinity gives equal workers, 0.1 gives each
    about one or two classes. It draws the training batches itself, so wrappers that change those go around it.

    Args:
      family: one whose training split holds `label`.
      alpha: concentration, positive.
      num_workers: K; training batches must have the shape [K, ...].

    Raises:
      ValueError: no labels, alpha not positive, fewer than 1 worker, a wrapper inside that changes training batches;
        when sampling, batches of another leading size.
    """
    if not 0 < alpha < math.inf:
        raise ValueError(f"alpha={alpha}: use a positive, finite concentration")
    if num_workers < 1:
        raise ValueError(f"num_workers={num_workers}: use at least 1")
    for suffix in (REDUCED_BATCHES, LABEL_NOISE):
        if suffix in family.name.split("+"):
            raise ValueError(f"{family.name}: put {suffix} around the Dirichlet split, not inside it")
    counts = _class_counts(family)
    num_classes = len(counts)
    concentration = (alpha * num_classes * counts / counts.sum()).astype(np.float32)
    order = np.argsort(np.asarray(family.data[TRAIN]["label"]), kind="stable")
    by_class = {name: np.asarray(leaf)[order] for name, leaf in family.data[TRAIN].items()}

    def change(inner: Task, config: TaskConfig, data: Data) -> Task:
        rows = {name: jnp.asarray(leaf) for name, leaf in data[TRAIN].items()}
        # Positions, not labels: those may carry noise by now.
        first = jnp.asarray(np.concatenate([[0], np.cumsum(counts)]), jnp.int32)

        def sample_batch(key: jax.Array, split: str, batch_shape: tuple[int, ...]) -> Batch:
            if split != TRAIN:
                return inner.sample_batch(key, split, batch_shape)
            if batch_shape[:1] != (num_workers,):
                raise ValueError(f"batch_shape={batch_shape}: this family is split over num_workers={num_workers}")
            class_key, example_key = jax.random.split(key)
            # Inverse transform of the cumulative distribution: one uniform number a label.
            uniform = jax.random.uniform(class_key, (num_workers, math.prod(batch_shape[1:])))
            label = jax.vmap(lambda edges, u: jnp.searchsorted(edges[:-1], u, side="right"))(
                jnp.cumsum(config["class_probabilities"], axis=1), uniform
            )
            start, stop = first[label], first[label + 1]
            offset = jax.random.uniform(example_key, label.shape) * (stop - start).astype(jnp.float32)
            index = jnp.minimum(start + offset.astype(jnp.int32), stop - 1).reshape(-1)
            drawn = {name: gather_images(x, index) if x.dtype == jnp.uint8 else x[index] for name, x in rows.items()}
            batch = family.eval_batch({TRAIN: drawn}, TRAIN)
            return jax.tree.map(lambda x: x.reshape(*batch_shape, *x.shape[1:]), batch)

        return inner._replace(sample_batch=sample_batch)

    def draw(key: jax.Array) -> TaskConfig:
        # The logarithms stay finite where small concentrations make the gamma draws underflow.
        log_gamma = jax.random.loggamma(key, jnp.asarray(concentration), (num_workers, num_classes))
        return {"class_probabilities": jax.nn.softmax(log_gamma, axis=1)}

    return _wrapped(family._replace(data={**family.data, TRAIN: by_class}), "dirichlet", draw, change)


def with_gradient_noise(family: TaskFamily, std: tuple[float, float] = (1e-3, 1e-1)) -> TaskFamily:
    """Independent Gaussian noise on every entry of every gradient; its standard deviation is log-uniform in `std`.

    Raises:
      ValueError: unless 0 < lowest <= highest.
    """
    _check_log_range("std", std)
    low, high = math.log(std[0]), math.log(std[1])

    def change(inner: Task, config: TaskConfig, data: Data) -> Task:
        del data

        def loss(params: Params, key: jax.Array, batch: Batch) -> Float[Array, ""]:
            loss_key, noise_key = jax.random.split(key)
            leaves = jax.tree.leaves(params)
            std = jnp.exp(config["log_std"])
            term = jnp.float32(0)
            for leaf, leaf_key in zip(leaves, jax.random.split(noise_key, len(leaves)), strict=True):
                noise = std.astype(leaf.dtype) * jax.random.normal(leaf_key, leaf.shape, leaf.dtype)
                term += jnp.sum(noise * (leaf - jax.lax.stop_gradient(leaf))).astype(jnp.float32)
            value = inner.loss(params, loss_key, batch)
            return value + term.astype(value.dtype)

        return inner._replace(loss=loss)

    def draw(key: jax.Array) -> TaskConfig:
        return {"log_std": jax.random.uniform(key, minval=low, maxval=high)}

    return _wrapped(family, "gradient_noise", draw, change)


def with_dtype(family: TaskFamily, dtype: DTypeLike) -> TaskFamily:
    """Parameters, batches and arithmetic in `dtype`; losses and metrics are returned as float32.

    Raises:
      ValueError: not a floating-point type.
    """
    if not jnp.issubdtype(dtype, jnp.floating):
        raise ValueError(f"dtype={dtype}: use a floating-point type, for example bfloat16")
    name = jnp.dtype(dtype).name

    def cast(tree):
        return jax.tree.map(lambda x: x.astype(dtype) if jnp.issubdtype(x.dtype, jnp.floating) else x, tree)

    def change(inner: Task, config: TaskConfig, data: Data) -> Task:
        del config, data
        return inner._replace(
            init=lambda key: cast(inner.init(key)),
            loss=lambda params, key, batch: inner.loss(params, key, cast(batch)).astype(jnp.float32),
            metrics=lambda params, batch: jax.tree.map(
                lambda x: x.astype(jnp.float32), inner.metrics(params, cast(batch))
            ),
        )

    return _wrapped(family, name, samples_nothing, change)


def _wrapped(
    family: TaskFamily,
    suffix: str,
    draw: Callable[[jax.Array], TaskConfig],
    change: Callable[[Task, TaskConfig, Data], Task],
) -> TaskFamily:
    def sample(key: jax.Array) -> TaskConfig:
        inner_key, own_key = jax.random.split(key)
        return {"inner": family.sample(inner_key), **draw(own_key)}

    def task(task_config: TaskConfig, data: Data) -> Task:
        return change(family.task(task_config["inner"], data), task_config, data)

    return family._replace(name=f"{family.name}+{suffix}", sample=sample, task=task)


def _num_tensors(family: TaskFamily) -> int:
    key = jax.random.key(0)
    return len(jax.tree.leaves(jax.eval_shape(lambda d: family.task(family.sample(key), d).init(key), family.data)))


def _class_counts(family: TaskFamily) -> np.ndarray:
    labels = family.data[TRAIN].get("label")
    if labels is None:
        raise ValueError(f"{family.name}: its examples have no labels; this wrapper is for classification")
    return np.bincount(np.asarray(labels))


def _check_log_range(name: str, bounds: tuple[float, float]) -> None:
    low, high = bounds
    if not 0 < low <= high < math.inf:
        raise ValueError(f"{name}={bounds}: use 0 < lowest <= highest")
