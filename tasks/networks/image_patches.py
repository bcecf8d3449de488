"""Images as sequences of disjoint square patches, as vision transformers and MLP-Mixers read them."""

from jaxtyping import Array, Float

from tasks.base import Data


def cut_into_patches(
    images: Float[Array, "batch height width channels"], size: int
) -> Float[Array, "batch patches pixels"]:
    """Disjoint size x size patches in reading order, flattened as [row, column, channel]."""
    batch, height, width, channels = images.shape
    grid = images.reshape(batch, height // size, size, width // size, size, channels).swapaxes(2, 3)
    return grid.reshape(batch, -1, size * size * channels)


def check_patch_size(data: Data, patch_size: int) -> None:
    """Patches must tile the images.

    Raises:
      ValueError: they do not.
    """
    height, width = data["train"]["image"].shape[1:3]
    if height % patch_size or width % patch_size:
        raise ValueError(f"patch_size={patch_size}: use a divisor of the images' {height} x {width} pixels")
