"""Datasets embedded in the repository: real, small, freely licensed. `tasks/data/README.md` states where they come
from, how they were made and under which licence; the sha256 of a file is checked each time it is read."""

import io
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tasks.base import Data
from tasks.datasets.data_folder import read_verified
from tasks.datasets.data_splits import split_80_10_10, split_by_drawer
from tasks.datasets.image_size import to_form

DATA_DIR = Path(__file__).parents[1] / "data"
REMEDY = "restore it from git"


class EmbeddedFile(NamedTuple):
    """File name below `tasks/data`, and the sha256 of its bytes."""

    file_name: str
    sha256: str


class EmbeddedImages(NamedTuple):
    """Images in the repository.

    Attributes:
      file: an .npz file of `x_*` uint8[N, size, size] and `y_*` uint8[N].
      size: height and width of its images.
      other_sizes: smaller sizes are made from these images; False where they are only a reduced copy of a larger
        original, from which other sizes must be made.
      split: arrays -> splits.
    """

    file: EmbeddedFile
    size: int
    other_sizes: bool
    split: Callable[[Mapping[str, np.ndarray]], Data]


IMAGES = {
    "fashion_mnist": EmbeddedImages(
        EmbeddedFile("fashion_mnist_8x8.npz", "ef8a10836dde78ee7706b19f5506fd345592a2b6ac20811cd82bcc86cf052138"),
        size=8,
        other_sizes=False,
        split=split_80_10_10,
    ),
    "omniglot_alphabets": EmbeddedImages(
        EmbeddedFile(
            "omniglot_alphabets_16x16.npz", "ea736e1497ed8daf1c89ab969e57f5065305327b4a7e7bbd0a13de606a676e3d"
        ),
        size=16,
        other_sizes=True,
        split=split_by_drawer,
    ),
}

TEXTS = {
    "tiny_shakespeare": EmbeddedFile(
        "tiny_shakespeare.txt.gz", "13125fe8f49092165d7d489e3944db52d1ba546e64a60080cc9523bcd0c5e46a"
    ),
}


def is_embedded(name: str, image_size: int | None) -> bool:
    """Whether the repository holds these images in this size (None: the dataset's own)."""
    if name not in IMAGES:
        return False
    return IMAGES[name].other_sizes or image_size == IMAGES[name].size


def embedded_images(name: str, image_size: int | None, folder: Path = DATA_DIR) -> Data:
    """Loads embedded images; all of them are grey.

    Raises:
      ValueError: an image_size above that of the file, or a damaged file.
      FileNotFoundError: the file is missing.
    """
    entry = IMAGES[name]
    arrays = read_arrays(read_embedded(entry.file, folder))
    sized = {
        key: to_form(array[..., None], image_size, grey=True) if key.startswith("x_") else array
        for key, array in arrays.items()
    }
    return entry.split(sized)


def read_embedded(file: EmbeddedFile, folder: Path = DATA_DIR) -> bytes:
    """The verified bytes of an embedded file.

    Raises:
      ValueError: a damaged file.
      FileNotFoundError: the file is missing.
    """
    return read_verified(folder / file.file_name, file.sha256, REMEDY)


def read_arrays(content: bytes) -> dict[str, np.ndarray]:
    """The arrays of an .npz file; pickled objects are refused."""
    with np.load(io.BytesIO(content), allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}
