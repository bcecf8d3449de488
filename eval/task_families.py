"""Task families by reference: what is evaluated, and meta-trained on, without editing the project.

fmnist8_mlp32                                           a family of tasks.suites
my_letters:mlp128x64                                    DATASET:NETWORK, any data set that tasks can load
shakespeare:gru32,row_length=33                         the same of a text, with arguments
image_mlp,dataset=my_letters,hidden_sizes=(128,)        a constructor with its arguments
my_package.mine:letters  or  path/to/mine.py:letters    a function that returns a tasks.base.TaskFamily
"""

import importlib.util
import inspect
import math
import re
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from eval.references import made_by
from learned_opt.names import hint, parse
from tasks.base import SPLITS, Data, TaskFamily
from tasks.datasets.load import load_dataset
from tasks.datasets.text import load_text
from tasks.families.images.barlow_twins import barlow_twins
from tasks.families.images.block_images import block_images
from tasks.families.images.contrastive import contrastive
from tasks.families.images.ghost_norm_mlp import ghost_norm_mlp
from tasks.families.images.hypernetwork import hypernetwork
from tasks.families.images.image_autoencoder import image_autoencoder
from tasks.families.images.image_cnn import image_cnn
from tasks.families.images.image_mixer import image_mixer
from tasks.families.images.image_mlp import image_mlp
from tasks.families.images.image_resnet import image_resnet
from tasks.families.images.image_vit import image_vit
from tasks.families.images.self_supervised import self_supervised
from tasks.families.images.width_mlp import width_mlp
from tasks.families.sequences.sparse_rnn import sparse_rnn
from tasks.families.sequences.text_rnn import text_rnn
from tasks.families.sequences.text_transformer import text_transformer
from tasks.families.theory.quadratics import quadratics
from tasks.networks.language_model import compact_vocabulary
from tasks.suites import FAMILIES

IMAGE_FAMILIES = (
    image_mlp,
    image_cnn,
    image_resnet,
    image_vit,
    image_mixer,
    image_autoencoder,
    hypernetwork,
    self_supervised,
    block_images,
    ghost_norm_mlp,
    width_mlp,
    barlow_twins,
    contrastive,
)
"""Constructors whose data are any images: all of tasks/families/images."""
TEXT_FAMILIES = (text_rnn, text_transformer, sparse_rnn)
"""Constructors whose data are any text."""

NETWORKS = {
    "mlp": ("image_mlp", "hidden_sizes"),
    "cnn": ("image_cnn", "widths"),
    "resnet": ("image_resnet", "widths"),
    "autoencoder": ("image_autoencoder", "hidden_sizes"),
    "vit": ("image_vit", "hidden_size"),
    "mixer": ("image_mixer", "hidden_size"),
    "gru": ("text_rnn,cell=gru", "hidden_size"),
    "lstm": ("text_rnn,cell=lstm", "hidden_size"),
    "transformer": ("text_transformer", "hidden_size"),
}
"""Network -> (its constructor, the argument that sizes behind its name set)."""

_DATASET_NETWORK = re.compile(rf"([^:,]+):({'|'.join(NETWORKS)})(\d+(?:x\d+)*)?(,.*)?")


def make_family(reference: str) -> TaskFamily:
    """Builds the family that a reference names, which loads its data.

    Raises:
      ValueError: nothing of that name, an unsuitable argument, or a function that returns something else.
      FileNotFoundError: its dataset was not found; the message says how to get it.
    """
    check_named(reference)
    made = made_by(written_out(reference), FAMILY_TABLE, "task family")
    if not isinstance(made, TaskFamily):
        raise ValueError(f"task family: {reference!r} returned {type(made).__name__}: return a tasks.base.TaskFamily")
    return made


def check_named(reference: str) -> None:
    """ValueError for a name that is none and near none (the table is too long to be a hint), and for DATASET:NETWORK
    with a network that there is not."""
    target = parse(written_out(reference)).target
    source, colon, function = target.rpartition(":")
    if colon and not source.endswith(".py") and not _is_module(source):
        near = hint(function.rstrip("0123456789x"), NETWORKS)
        raise ValueError(
            f"task family: {target!r}: there is no network {function!r}, {near} with sizes behind it, e.g. mlp128x64; "
            f"nor a module {source!r} with a function of that name"
        )
    if ":" not in target and target not in FAMILY_TABLE and "did you mean" not in hint(target, FAMILY_TABLE):
        raise ValueError(
            f"task family: {target!r} is unknown: use one that 'python -m tasks' lists, DATASET:NETWORK such as "
            "fashion_mnist:mlp128, or file.py:function"
        )


def _is_module(name: str) -> bool:
    """Whether its package can be found; nothing is imported."""
    try:
        return importlib.util.find_spec(name.partition(".")[0]) is not None
    except ValueError:
        # Of a program that runs there is no specification.
        return True


def describe(family: TaskFamily, reference: str) -> dict[str, Any]:
    """What a family is, as JSON values for the results file and the report.

    Args:
      family: checked.
      reference: by which it was named.
    """

    def shapes(data):
        task = family.task(family.sample(jax.random.key(0)), data)
        params = task.init(jax.random.key(0))
        return params, task.metrics(params, family.eval_batch(data, "inner_valid"))

    params, metrics = jax.eval_shape(shapes, {split: family.data[split] for split in ("train", "inner_valid")})
    return {
        "name": family.name,
        "reference": reference,
        "description": FAMILIES[reference].description if reference in FAMILIES else "",
        "num_params": sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params)),
        "examples": {split: len(jax.tree.leaves(family.data[split])[0]) for split in SPLITS},
        "leaves": {name: f"{leaf.dtype} {list(np.shape(leaf)[1:])}" for name, leaf in family.data["train"].items()},
        "metrics": list(metrics),
        "constant_guess_loss": float(family.uninformed_loss),
    }


def written_out(reference: str) -> str:
    """A reference with `DATASET:NETWORK` written as a constructor and its arguments."""
    found = _DATASET_NETWORK.fullmatch(reference.strip())
    if found is None or found[1].endswith(".py"):
        return reference
    dataset, network, sizes, rest = found.groups()
    constructor, field = NETWORKS[network]
    name = re.sub(r"[^A-Za-z0-9_+-]+", "_", f"{dataset}_{network}{sizes or ''}")
    parts = [constructor, f"dataset={dataset!r}"]
    if sizes is not None:
        numbers = sizes.split("x")
        if field == "hidden_size" and len(numbers) > 1:
            raise ValueError(f"task family: {reference!r}: {network} takes one size, e.g. {network}{numbers[0]}")
        parts.append(f"{field}={numbers[0]}" if field == "hidden_size" else f"{field}=({','.join(numbers)},)")
    parts += [] if "name=" in (rest or "") else [f"name={name}"]
    return ",".join(parts) + (rest or "")


def _of_images(make: Callable[..., TaskFamily]) -> Callable[..., TaskFamily]:
    takes_classes = "num_classes" in inspect.signature(make).parameters

    def family(dataset: str, image_size: int | None = None, grey: bool = False, **arguments: Any) -> TaskFamily:
        data = load_dataset(dataset, image_size, grey)
        found = {"num_classes": 1 + _largest(data, "label")} if takes_classes else {}
        return make(data, **{"name": f"{dataset}_{make.__name__}", **found, **arguments})

    return _with_arguments_of(family, make)


def _of_text(make: Callable[..., TaskFamily]) -> Callable[..., TaskFamily]:
    def family(dataset: str, row_length: int = 65, max_bytes: int | None = None, **arguments: Any) -> TaskFamily:
        data, alphabet = compact_vocabulary(load_text(dataset, row_length=row_length, max_bytes=max_bytes))
        return make(data, len(alphabet), **{"name": f"{dataset}_{make.__name__}", **arguments})

    return _with_arguments_of(family, make)


def _largest(data: Data, leaf: str) -> int:
    return max(int(np.max(leaves[leaf])) for leaves in data.values())


def _with_arguments_of(function: Any, make: Callable[..., TaskFamily]) -> Callable[..., TaskFamily]:
    """Spells `**arguments` out, so that a reference's arguments can be checked before anything is loaded."""
    own = [p for p in inspect.signature(function).parameters.values() if p.kind is not p.VAR_KEYWORD]
    added = [
        p.replace(kind=p.KEYWORD_ONLY)
        for p in inspect.signature(make).parameters.values()
        if p.name not in ("data", "vocab_size", "variants")
    ]
    function.__signature__ = inspect.Signature([*own, *added])
    return function


FAMILY_TABLE: dict[str, Callable[..., TaskFamily]] = {
    **{name: entry.make for name, entry in FAMILIES.items()},
    **{make.__name__: _of_images(make) for make in IMAGE_FAMILIES},
    **{make.__name__: _of_text(make) for make in TEXT_FAMILIES},
    "quadratics": quadratics,
}
"""What a name means: the families of the suites, and constructors."""
