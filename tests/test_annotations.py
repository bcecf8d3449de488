"""Annotations are checked in every folder while the tests run: what conftest.py sets up is in force."""

import inspect
import sys
import typing

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import TypeCheckError

from eval.scores.scores import num_diverged
from learned_opt.algorithms.round import all_losses
from learned_opt.algorithms.worker_mesh import make_worker_mesh
from meta_train.estimators.truncation import constant_length
from tasks.batches import draw_indices

WRONG_CALLS = {
    "learned_opt": lambda: make_worker_mesh("2"),  # pyright: ignore[reportArgumentType]
    "learned_opt, rank of an array": lambda: all_losses(jnp.zeros(3)),
    "tasks": lambda: draw_indices(jax.random.key(0), [2], 5),  # pyright: ignore[reportArgumentType]
    "eval, dtype of an array": lambda: num_diverged(np.zeros(3, np.int32)),
    "meta_train": lambda: constant_length("2", 1),  # pyright: ignore[reportArgumentType]
}


@pytest.mark.parametrize("folder", WRONG_CALLS)
def test_a_wrong_type_is_seen(folder):
    with pytest.raises(TypeCheckError, match="Type-check error whilst checking the parameters"):
        WRONG_CALLS[folder]()


def test_every_name_in_the_librarys_annotations_is_known():
    """One that stands below `if TYPE_CHECKING:` and was not imported would leave its function unchecked."""
    modules = {name: module for name, module in sys.modules.items() if f"{name}.".startswith("learned_opt.")}
    checked = 0
    for name, module in modules.items():
        for function in vars(module).values():
            if inspect.isfunction(function) and function.__module__ == name:
                typing.get_type_hints(function)
                checked += 1
    assert checked > 50
