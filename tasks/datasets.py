"""Datasets embedded in the repository: real, small, freely licensed.

`tasks/data/README.md` states where they come from, how they were made and under which licence.

The original training set is cut in file order: the first 80 % are `train`, the next 10 %
`inner_valid`, the last 10 % `outer_valid`. The original test set is `test`.
"""

import hashlib
import io
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tasks.base import SPLITS, Data

DATA_DIR = Path(__file__).parent / "data"


class EmbeddedFile(NamedTuple):
    """File name below `tasks/data`, and the sha256 of its bytes."""

    file_name: str
    sha256: str


EMBEDDED = {
    ("fashion_mnist", 8, True): EmbeddedFile(
        "fashion_mnist_8x8.npz", "ef8a10836dde78ee7706b19f5506fd345592a2b6ac20811cd82bcc86cf052138"
    ),
}


def load_dataset(name: str, image_size: int, grey: bool, data_dir: Path = DATA_DIR) -> Data:
    """Loads an embedded dataset.

    Args:
      name: e.g. "fashion_mnist".
      image_size: height and width in pixels.
      grey: one channel rather than three.
      data_dir: where the files lie.

    Returns:
      `{split: {"image": uint8[N, image_size, image_size, channels], "label": int32[N]}}`, NumPy
      arrays.

    Raises:
      ValueError: no such dataset, or a file that is not the one it should be.
      FileNotFoundError: the file is missing.
    """
    if (name, image_size, grey) not in EMBEDDED:
        known = "; ".join(f"{n}, image_size={s}, grey={g}" for n, s, g in EMBEDDED)
        raise ValueError(f"no embedded dataset {name!r} with image_size={image_size}, grey={grey}: there is {known}")
    embedded = EMBEDDED[name, image_size, grey]
    arrays = read_verified(data_dir / embedded.file_name, embedded.sha256)
    return split_80_10_10(arrays)


def read_verified(path: Path, sha256: str) -> dict[str, np.ndarray]:
    """The arrays of an .npz file whose bytes have this sha256.

    Raises:
      ValueError: another sha256.
      FileNotFoundError: no such file.
    """
    if not path.exists():
        raise FileNotFoundError(f"{path} is missing: restore it from git")
    content = path.read_bytes()
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        raise ValueError(f"{path} is damaged (sha256 {found[:12]}..., expected {sha256[:12]}...): restore it from git")
    with np.load(io.BytesIO(content), allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}


def split_80_10_10(arrays: dict[str, np.ndarray]) -> Data:
    """Cuts `x_train`, `y_train` in order, and adds `x_test`, `y_test` as they are; grey images get
    a channel axis."""
    num_train = len(arrays["x_train"])
    cuts = [num_train * 8 // 10, num_train * 9 // 10]

    def images(x: np.ndarray) -> np.ndarray:
        return x[..., None] if x.ndim == 3 else x

    image_parts = [*np.split(images(arrays["x_train"]), cuts), images(arrays["x_test"])]
    label_parts = [*np.split(arrays["y_train"], cuts), arrays["y_test"]]
    return {
        split: {"image": image, "label": label.astype(np.int32)}
        for split, image, label in zip(SPLITS, image_parts, label_parts, strict=True)
    }
