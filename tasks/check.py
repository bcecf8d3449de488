"""Checks a task family where it enters, before hours are spent on it: its data in NumPy, its functions by one run.

Wrong labels are the mistake that shows least: a one-hot of a label outside 0 .. C-1 is all zeros, and the cross-entropy
then falls without bound.
"""

import contextlib
import math
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tasks.base import SPLITS, TaskFamily

BATCH_SIZE = 4
"""Examples of the small run."""


def check_is_family(value: Any, name: str) -> None:
    """ValueError, with the name of the argument, for what is no task family."""
    if not isinstance(value, TaskFamily):
        call = "call it first; " if callable(value) else ""
        raise ValueError(f"{name}={str(value)[:60]}: {call}use a tasks.base.TaskFamily")


def check_family(family: TaskFamily) -> None:
    """`check_form`, and that a first loss is a finite number.

    Raises:
      ValueError: naming family, split, leaf, value and what to do.
      RuntimeError: one of the family's own functions fails; its error is the cause.
    """
    where = check_form(family)
    _check_first_loss(family, where)


def check_form(family: TaskFamily) -> str:
    """Checks splits, shapes, dtypes, labels and values of the data, and the shapes of what the functions return.

    Nothing is compiled. Labels are checked where `uninformed_loss` is ln C for a whole C, as it is for classification:
    they are 0 to C - 1, or -1 and 1 for two classes.

    Returns:
      how to call the family in an error.

    Raises:
      as `check_family`.
    """
    check_is_family(family, "family")
    where = f"task family {family.name}"
    if not isinstance(family.uninformed_loss, int | float) or not 0 < family.uninformed_loss < math.inf:
        raise ValueError(f"{where}: uninformed_loss={family.uninformed_loss!r}: use a constant guess's loss, above 0")
    _check_data(family, where)
    _check_shapes(family, where)
    return where


def num_classes(family: TaskFamily) -> int | None:
    """C of a family whose constant guess costs ln C, as in classification; None for others."""
    classes = round(math.exp(min(family.uninformed_loss, 30.0)))
    return classes if classes >= 2 and math.isclose(family.uninformed_loss, math.log(classes), rel_tol=1e-6) else None


def _check_data(family: TaskFamily, where: str) -> None:
    missing = [split for split in SPLITS if split not in family.data]
    if missing:
        raise ValueError(f"{where}: its data have no split {missing[0]}: give all of {', '.join(SPLITS)}")
    forms = {split: _check_split(family.data[split], f"{where}, {split}") for split in SPLITS}
    for split, form in forms.items():
        for leaf in form.keys() | forms["train"].keys():
            if form.get(leaf) != forms["train"].get(leaf):
                raise ValueError(
                    f"{where}, {split}/{leaf}: {_form(form, leaf)}, but {_form(forms['train'], leaf)} in train: give "
                    "every split the same leaves, shapes and dtypes"
                )
    classes = num_classes(family)
    if classes is None or "label" not in forms["train"]:
        return
    for split in SPLITS:
        labels = np.asarray(family.data[split]["label"])
        if labels.dtype.kind not in "iu":
            continue
        low, high = int(labels.min()), int(labels.max())
        if classes == 2 and set(np.unique(labels)) <= {-1, 1}:
            continue
        if low < 0 or high >= classes:
            shift = " (do they start at 1?)" if low == 1 and high == classes else ""
            raise ValueError(
                f"{where}, {split}/label: labels {low} to {high}, with {classes} classes they lie in 0 to "
                f"{classes - 1}{shift}: shift them or set the number of classes"
            )


def _check_split(leaves: Any, where: str) -> dict[str, tuple[tuple[int, ...], str]]:
    """Leaf -> (shape of an example, dtype)."""
    if not leaves:
        raise ValueError(f"{where}: no leaves: give at least one array [examples, ...]")
    form, sizes = {}, {}
    for name, leaf in leaves.items():
        shape, dtype = np.shape(leaf), getattr(leaf, "dtype", None)
        if dtype is None or dtype.kind == "c" or not (dtype.kind == "b" or jnp.issubdtype(dtype, jnp.number)):
            raise ValueError(f"{where}/{name}: {dtype or type(leaf).__name__}: use an array of numbers or booleans")
        if not shape or not shape[0]:
            raise ValueError(f"{where}/{name}: shape {shape}: use [examples, ...] with at least one example")
        if name == "image" and dtype != np.uint8:
            raise ValueError(f"{where}/image: {dtype}: store pixels 0 to 255 as uint8, or call the leaf something else")
        if jnp.issubdtype(dtype, jnp.floating) and not np.isfinite(np.asarray(leaf, np.float32)).all():
            raise ValueError(f"{where}/{name}: holds NaN or infinity: remove these examples")
        form[name], sizes[name] = (shape[1:], str(dtype)), shape[0]
    if len(set(sizes.values())) > 1:
        raise ValueError(f"{where}: {sizes} examples in its leaves: give all of them the same number")
    return form


def _form(form: dict[str, tuple[tuple[int, ...], str]], leaf: str) -> str:
    if leaf not in form:
        return "missing"
    shape, dtype = form[leaf]
    return f"{dtype} {list(shape)} an example"


def _check_shapes(family: TaskFamily, where: str) -> None:
    def metrics(key, data):
        task = family.task(family.sample(key), data)
        return task.metrics(task.init(key), family.eval_batch(data, "inner_valid"))

    data = {split: family.data[split] for split in ("train", "inner_valid")}
    with _failures_of(where):
        loss, _ = jax.eval_shape(_first_loss(family), jax.random.key(0), data)
        reported = jax.eval_shape(metrics, jax.random.key(0), data)
    if loss.shape != () or not jnp.issubdtype(loss.dtype, jnp.floating):
        raise ValueError(f"{where}: its loss is {loss.dtype}{list(loss.shape)}: return one float, the batch's mean")
    odd = {name: list(leaf.shape) for name, leaf in reported.items() if leaf.shape != ()}
    if "loss" not in reported or odd:
        raise ValueError(f"{where}: its metrics {odd or list(reported)}: return scalars by name, 'loss' among them")


def _check_first_loss(family: TaskFamily, where: str) -> None:
    with _failures_of(where):
        lowered = jax.jit(_first_loss(family)).lower(jax.random.key(0), {"train": family.data["train"]})
        # One run only: not worth optimizing.
        program = lowered.compile({"xla_backend_optimization_level": "0", "xla_llvm_disable_expensive_passes": True})
        loss, finite = program(jax.random.key(0), {"train": family.data["train"]})
    if not bool(finite):
        raise ValueError(f"{where}: its initial parameters hold NaN or infinity: look at init")
    if not math.isfinite(float(loss)) or (num_classes(family) is not None and float(loss) < 0):
        raise ValueError(f"{where}: its first loss on train is {float(loss):g}: look at data, init and loss")


def _first_loss(family: TaskFamily) -> Callable[..., tuple[jax.Array, jax.Array]]:
    """(key, data) -> (loss of a small batch at the initial parameters, whether these are finite)."""

    def first_loss(key, data):
        config_key, init_key, batch_key, loss_key = jax.random.split(key, 4)
        task = family.task(family.sample(config_key), data)
        params = task.init(init_key)
        finite = [jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(params)]
        loss = task.loss(params, loss_key, task.sample_batch(batch_key, "train", (BATCH_SIZE,)))
        return loss, jnp.all(jnp.stack(finite))

    return first_loss


@contextlib.contextmanager
def _failures_of(where: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        raise RuntimeError(f"{where}: its functions fail on its own data ({reason})") from error
