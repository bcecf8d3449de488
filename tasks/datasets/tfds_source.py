"""Datasets prepared by tensorflow-datasets (https://www.tensorflow.org/datasets), read without TensorFlow.

`tfds.data_source` reads array_record files with Pillow and NumPy alone. Preparing a dataset (which downloads it)
needs TensorFlow once, because the builders of tensorflow-datasets use its file system and codecs; the prepared folder
can then be read, or copied to another machine, without it. Examples come in the order of the prepared files, which
tensorflow-datasets has shuffled with a fixed seed: splits hold other examples than those of the .npz files.
"""

import importlib.util
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np

from tasks.base import Data
from tasks.datasets.data_folder import INSTALL
from tasks.datasets.data_splits import NUM_DRAWERS, split_80_10_10, split_by_drawer

CHUNK = 512
Sources = Mapping[str, Sequence[Any]]
"""`{split: examples}`; an example is `{feature: array or bytes}`."""


def is_installed(module: str) -> bool:
    """Whether a module could be imported, without importing it."""
    return importlib.util.find_spec(module) is not None


def default_folder() -> Path:
    """Where tensorflow-datasets keeps what it prepared."""
    return Path(os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets").expanduser()


def is_prepared(name: str, folder: Path) -> bool:
    """Whether `folder/name/version/` or `folder/name/config/version/` was prepared."""
    levels = ("*/dataset_info.json", "*/*/dataset_info.json")
    return any(next((folder / name).glob(level), None) for level in levels)


def find_sources(name: str, folder: Path | None) -> Sources | str:
    """Opens a dataset: prepared in `folder`, prepared in the default folder, or downloaded and prepared.

    Returns:
      Its splits, or why there are none.

    Raises:
      ValueError: it is prepared, but cannot be read; the message says what is missing.
    """
    place = _prepared_in(name, folder)
    if not is_installed("tensorflow_datasets"):
        if place:
            raise ValueError(f"{name} is prepared in {place}, but tensorflow-datasets is missing: install {INSTALL}")
        return "tensorflow-datasets, which could download it, is not installed"
    if place:
        return open_prepared(name, place)
    if not is_installed("tensorflow"):
        return "tensorflow-datasets could download it, but needs tensorflow to prepare it"
    return download(name, folder or default_folder())


def _prepared_in(name: str, folder: Path | None) -> Path | None:
    places = [folder, default_folder()] if folder else [default_folder()]
    return next((place for place in places if is_prepared(name, place)), None)


def open_prepared(name: str, folder: Path) -> Sources:
    """Opens a prepared dataset without TensorFlow.

    Raises:
      ValueError: tensorflow-datasets cannot read it.
    """
    import tensorflow_datasets as tfds

    try:
        return cast(Sources, tfds.data_source(name, data_dir=folder, download=False))
    except NotImplementedError:
        raise ValueError(
            f"{folder / name} is prepared in a format without random access, or in another version than the installed "
            "tensorflow-datasets expects: prepare it again with file_format='array_record'"
        ) from None
    except ImportError as error:
        raise ValueError(f"{folder / name} cannot be read ({error}): install {INSTALL}") from None


def download(name: str, folder: Path) -> Sources | str:
    """Downloads and prepares a dataset in `folder`; says why in one line where that fails."""
    import tensorflow_datasets as tfds

    arguments = {"file_format": "array_record"}
    try:
        return cast(Sources, tfds.data_source(name, data_dir=folder, download=True, builder_kwargs=arguments))
    except Exception as error:
        # The network, the server, the checksums, the disk and the name can be at fault, each with a type of its own.
        lines = str(error).splitlines() or [""]
        return f"downloading it with tensorflow-datasets failed ({type(error).__name__}: {lines[0][:200]})"


def read_images(name: str, sources: Sources, convert: Callable[[np.ndarray], np.ndarray]) -> Data:
    """Reads images and labels.

    The features are `image` uint8[h, w, c] and `label`, the splits `train` and `test`; `validation` stands in for a
    missing `test` (ImageNet). Omniglot is cut by occurrence within a character, since its drawers are not recorded.

    Args:
      name: the dataset.
      sources: from `find_sources`.
      convert: uint8[n, h, w, c] -> uint8[n, H, W, C], applied to chunks.

    Raises:
      ValueError: other features or splits, or images of different sizes.
    """
    if name == "omniglot":
        return split_by_drawer(_omniglot(sources, convert))
    held_out = "test" if "test" in sources else "validation"
    if not {"train", held_out} <= set(sources):
        raise ValueError(f"{name} has the splits {sorted(sources)}: train and test (or validation) are needed")
    train, test = (_examples(name, sources[split], convert) for split in ("train", held_out))
    return split_80_10_10({"x_train": train[0], "y_train": train[1], "x_test": test[0], "y_test": test[1]})


def _omniglot(sources: Sources, convert: Callable[[np.ndarray], np.ndarray]) -> dict[str, np.ndarray]:
    """The evaluation set, 20 drawings of each character in turn; ink is 255, labels count from 0."""

    def one_channel_of_ink(images: np.ndarray) -> np.ndarray:
        # The originals are black on white; ink covers the smaller part of a drawing.
        grey = images[..., :1]
        return convert(255 - grey if grey.mean() > 127 else grey)

    images, labels = _examples("omniglot", sources["test"], one_channel_of_ink)
    _, labels, counts = np.unique(labels, return_inverse=True, return_counts=True)
    if (counts != NUM_DRAWERS).any():
        raise ValueError(
            f"omniglot has {counts.min()} to {counts.max()} drawings of a character: {NUM_DRAWERS} expected"
        )
    order = np.argsort(labels, kind="stable")
    return {"x_test": images[order], "y_test": labels[order]}


def _examples(
    name: str, source: Sequence[Any], convert: Callable[[np.ndarray], np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Images and labels of one split, read and converted in chunks to bound the memory."""
    images, labels = [], []
    for start in range(0, len(source), CHUNK):
        examples = [source[i] for i in range(start, min(start + CHUNK, len(source)))]
        if not {"image", "label"} <= set(examples[0]):
            raise ValueError(f"{name} has the features {sorted(examples[0])}: image and label are needed")
        shapes = {example["image"].shape for example in examples}
        if len(shapes) > 1:
            raise ValueError(f"{name} has images of different sizes, e.g. {' and '.join(map(str, sorted(shapes)[:2]))}")
        images.append(convert(np.stack([example["image"] for example in examples])))
        labels += [int(example["label"]) for example in examples]
    return np.concatenate(images), np.asarray(labels, np.int32)
