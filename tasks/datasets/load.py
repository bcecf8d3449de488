"""Datasets by name: `load_dataset` for images; `tasks.datasets.text.load_text` is the one for text.

A dataset is looked for in this order: embedded in the repository (`tasks.datasets.embedded`); in the user's folder, as
.npz files (`tasks.datasets.npz_source`) or prepared by tensorflow-datasets (`tasks.datasets.tfds_source`); on the
network, through tensorflow-datasets. There is no stand-in: a dataset that is nowhere is an error that says how to get
it.

The original training set is cut in the order of its source: the first 80 % are `train`, the next 10 % `inner_valid`,
the last 10 % `outer_valid`. The original test set is `test`. The .npz files keep the order of the original release,
while tensorflow-datasets shuffles: the same name gives the same test set but another cut of the training set.
Omniglot, whose original test set holds other characters, is cut by drawer (`tasks.datasets.data_splits`).
"""

import functools
from pathlib import Path

from tasks.base import Data
from tasks.datasets.data_folder import Wanted, data_folder, missing_dataset
from tasks.datasets.embedded import embedded_images, is_embedded
from tasks.datasets.image_size import to_form
from tasks.datasets.npz_source import files_of, read_npz
from tasks.datasets.tfds_source import find_sources, read_images

KNOWN = ("fashion_mnist", "omniglot_alphabets", "mnist", "cifar10", "cifar100", "svhn_cropped", "omniglot")


def load_dataset(
    name: str, image_size: int | None = None, grey: bool = False, data_dir: str | Path | None = None
) -> Data:
    """Loads a dataset of labelled images.

    Args:
      name: embedded are "fashion_mnist" (at 8x8 only) and "omniglot_alphabets" (16x16; the 20 alphabets are the
        classes). In a folder: "mnist", "fashion_mnist", "cifar10", "omniglot" (the 659 characters of the evaluation
        set, 105x105), or any dataset of tensorflow-datasets with an image and a label: "cifar100", "svhn_cropped",
        "imagenet_resized/32x32", ...
      image_size: height and width in pixels, made by area interpolation (`tasks.datasets.image_size`); None is the
        dataset's own. The embedded Fashion-MNIST at 8x8 was interpolated linearly, see `tasks/data/README.md`.
      grey: Rec. 601 luma of colour images; grey images are grey either way.
      data_dir: the user's folder; None takes it from the environment variable LEARNED_OPT_DATA.

    Returns:
      `{split: {"image": uint8[N, H, W, C], "label": int32[N]}}`, NumPy arrays.

    Raises:
      FileNotFoundError: the dataset is nowhere, or there is no such folder; the line says what was looked for, where.
      ValueError: a file that is not the one it should be, or an image_size above that of the images.
    """
    if is_embedded(name, image_size):
        return embedded_images(name, image_size)
    convert = functools.partial(to_form, image_size=image_size, grey=grey)
    folder = data_folder(data_dir)
    if folder and (data := read_npz(name, folder, convert)):
        return data
    sources = find_sources(name, folder)
    if isinstance(sources, str):
        raise missing_dataset(_wanted(name), folder, sources)
    return read_images(name, sources, convert)


def _wanted(name: str) -> Wanted:
    return Wanted(
        name,
        files=[file.file_name for file in files_of(name)],
        content="uint8 images x_train and x_test, labels y_train and y_test",
        embedded="fashion_mnist at 8x8 and omniglot_alphabets",
        known=KNOWN,
    )
