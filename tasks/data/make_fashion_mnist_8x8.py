"""Builds `fashion_mnist_8x8.npz` from the original 28x28 images.

    python tasks/data/make_fashion_mnist_8x8.py FOLDER_WITH_SOURCE [OUTPUT]

FOLDER_WITH_SOURCE holds `fashion_mnist.npz`, directly or in `small/`, with the original images in
their original order: x_train uint8[60000, 28, 28], y_train, x_test uint8[10000, 28, 28], y_test.
The original gzip files of the Fashion-MNIST repository, unpacked with NumPy, give the same arrays.
"""

import hashlib
import sys
from pathlib import Path

import numpy as np

SIZE = 8


def interpolation_weights(size_in: int, size_out: int) -> np.ndarray:
    """[size_out, size_in]: output pixel i samples input coordinate (i + 0.5) size_in / size_out -
    0.5 linearly.

    Half-pixel centres, edges clamped, no antialiasing: `jax.image.resize(..., "linear",
    antialias=False)`.
    """
    weights = np.zeros((size_out, size_in), np.float32)
    for i in range(size_out):
        coordinate = (i + 0.5) * size_in / size_out - 0.5
        low = int(np.floor(coordinate))
        fraction = coordinate - low
        for neighbour, weight in ((low, 1 - fraction), (low + 1, fraction)):
            weights[i, min(max(neighbour, 0), size_in - 1)] += weight
    return weights


def shrink(images: np.ndarray) -> np.ndarray:
    """uint8[N, H, W] -> uint8[N, 8, 8]. From 28 pixels the result is exact in sixteenths; halves
    round to even."""
    rows = interpolation_weights(images.shape[1], SIZE)
    columns = interpolation_weights(images.shape[2], SIZE)
    resized = np.einsum("ih,nhw,jw->nij", rows, images.astype(np.float32), columns, optimize=True)
    return np.rint(resized).astype(np.uint8)


def read_source(folder: Path) -> dict[str, np.ndarray]:
    """The four arrays of `fashion_mnist.npz` in the folder or in its `small/`."""
    for path in (folder / "fashion_mnist.npz", folder / "small" / "fashion_mnist.npz"):
        if path.exists():
            with np.load(path, allow_pickle=False) as archive:
                return {name: archive[name] for name in ("x_train", "y_train", "x_test", "y_test")}
    raise FileNotFoundError(f"no fashion_mnist.npz in {folder} or {folder / 'small'}")


def main() -> None:
    source = read_source(Path(sys.argv[1]))
    default = Path(__file__).parent / "fashion_mnist_8x8.npz"
    output = Path(sys.argv[2]) if len(sys.argv) > 2 else default
    # Deflate rather than LZMA: 13 % larger, but eight times faster to read, and every Python has
    # zlib.
    np.savez_compressed(
        output,
        x_train=shrink(source["x_train"]),
        y_train=source["y_train"].astype(np.uint8),
        x_test=shrink(source["x_test"]),
        y_test=source["y_test"].astype(np.uint8),
    )
    print(f"{output}  sha256 {hashlib.sha256(output.read_bytes()).hexdigest()}")


if __name__ == "__main__":
    main()
