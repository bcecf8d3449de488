"""Image datasets in .npz files of the user's folder.

A file holds `x_train`, `y_train`, `x_test`, `y_test`, in the order of the original release. Two encodings save space:
`x_*_med`, residuals of colour images (`tasks.datasets.residual_images`), and `x_*_bits`, bits packed along the row with
the image size in `shape`. The sha256 of the files listed here is checked; another dataset may lie in `NAME.npz` (a
slash in its name written as `_`), unchecked.
"""

import io
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tasks.base import Data
from tasks.datasets.data_folder import find_file, read_verified
from tasks.datasets.data_splits import split_80_10_10, split_by_drawer
from tasks.datasets.residual_images import decode_residuals

KEYS = ("x_train", "y_train", "x_test", "y_test")
SMALLEST = 10
"""Training images of which 80, 10 and 10 % are at least one each."""


class NpzFile(NamedTuple):
    """File name, and the sha256 of its bytes (None: not checked)."""

    file_name: str
    sha256: str | None


FILES = {
    "mnist": [NpzFile("mnist.npz", "6eed3e330385ef7e84e27c09b2410782f8d93a0e405dd3fdc11ca7a5dcca4779")],
    "fashion_mnist": [NpzFile("fashion_mnist.npz", "3056b49b6ea70014fdb1b7cf04154c8ea8b275a697c1845ce9d7f4557d3f99f6")],
    "cifar10": [
        NpzFile("cifar10_part0.npz", "902ae303b80e57d95845fa5b5a76fec18f574693602ec45200c44e5b7efab86c"),
        NpzFile("cifar10_part1.npz", "4eb3825646d30c6f29e6e30a82ce827f9f3b2a9235ce5afcb70fe190562a2819"),
    ],
    "omniglot": [NpzFile("omniglot.npz", "f31df553f6f9d2f1f285d7179d33f38a3a72db6c985382203aa39db53de9c719")],
}

SPLITTERS: dict[str, Callable[[Mapping[str, np.ndarray]], Data]] = {"omniglot": split_by_drawer}
"""Datasets that are not cut by `split_80_10_10`."""


def files_of(name: str) -> list[NpzFile]:
    """The files that hold a dataset."""
    return FILES.get(name, [NpzFile(f"{name.replace('/', '_')}.npz", None)])


def read_npz(name: str, folder: Path, convert: Callable[[np.ndarray], np.ndarray]) -> Data | None:
    """Reads a dataset from the folder or its `small/`.

    Args:
      name: e.g. "mnist".
      folder: where to look.
      convert: uint8[n, h, w, c] -> uint8[n, H, W, C], applied to each file.

    Returns:
      The splits, or None unless all its files are there.

    Raises:
      ValueError: a file that is not the known one, or without the arrays named above; of another dataset, labels that
        do not begin at 0, or too few images to be cut.
    """
    files = files_of(name)
    paths = [find_file(folder, file.file_name) for file in files]
    if not all(paths):
        return None
    parts = [read_part(path, file.sha256, convert) for path, file in zip(paths, files, strict=True) if path]
    arrays = {key: np.concatenate([part[key] for part in parts]) for key in KEYS}
    if files[0].sha256 is None:
        _check_users_file(paths[0], arrays)
    return SPLITTERS.get(name, split_80_10_10)(arrays)


def read_part(path: Path, sha256: str | None, convert: Callable[[np.ndarray], np.ndarray]) -> dict[str, np.ndarray]:
    """The four arrays of one file, decoded and converted.

    Raises:
      ValueError: a file that is not the known one, damaged, or without the arrays named above.
    """
    content = path.read_bytes() if sha256 is None else read_verified(path, sha256, "fetch the file again")
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as archive:
            stored = {key: archive[key] for key in archive.files}
    except (ValueError, TypeError, EOFError, OSError, zipfile.BadZipFile):
        raise ValueError(
            f"{path}: damaged, no .npz file, or not of numbers alone: write it with np.savez from arrays of numbers"
        ) from None
    found = {split: (_images(stored, f"x_{split}"), stored.get(f"y_{split}")) for split in ("train", "test")}
    arrays = {}
    for split, (images, labels) in found.items():
        if images is None or labels is None:
            raise ValueError(
                f"{path} needs uint8 images x_train, x_test and labels y_train, y_test: has {list(stored)}"
            )
        if images.dtype != np.uint8 or images.ndim not in (3, 4):
            raise ValueError(
                f"{path}: x_{split} is {images.dtype} {list(images.shape)}: store pixels 0 to 255 as uint8, [images, "
                "height, width] or [images, height, width, channels]"
            )
        if labels.shape != images.shape[:1] or not np.issubdtype(labels.dtype, np.integer):
            raise ValueError(
                f"{path}: y_{split} is {labels.dtype} {list(labels.shape)}: store a whole number from 0 for each of "
                f"the {len(images)} images of x_{split}"
            )
        arrays[f"x_{split}"] = convert(images if images.ndim == 4 else images[..., None])
        arrays[f"y_{split}"] = labels.astype(np.int32)
    return arrays


def _check_users_file(path, arrays):
    """Labels from 1 would pass for those of one class more, which never occurs, and train to plausible nonsense."""
    if len(arrays["x_train"]) < SMALLEST or not len(arrays["x_test"]):
        raise ValueError(
            f"{path}: {len(arrays['x_train'])} images in x_train, {len(arrays['x_test'])} in x_test: store at least "
            f"{SMALLEST} and 1, of x_train 80, 10 and 10 % become splits"
        )
    lowest = min(int(arrays[key].min()) for key in ("y_train", "y_test"))
    if lowest > 0:
        raise ValueError(f"{path}: labels begin at {lowest}: count classes from 0, e.g. y_train - {lowest}")


def _images(stored: Mapping[str, np.ndarray], key: str) -> np.ndarray | None:
    """uint8 [N, H, W] or [N, H, W, C] from any of the encodings; bits become 0 and 255."""
    if f"{key}_med" in stored:
        return decode_residuals(stored[f"{key}_med"])
    if f"{key}_bits" in stored:
        height, width = stored["shape"]
        bits = np.unpackbits(stored[f"{key}_bits"], axis=1, count=height * width)
        return bits.reshape(-1, height, width) * np.uint8(255)
    return stored.get(key)
