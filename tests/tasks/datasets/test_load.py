import hashlib
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tasks.base import SPLITS
from tasks.data.make_fashion_mnist_8x8 import read_source, shrink
from tasks.data.make_omniglot_alphabets_16x16 import drawings_to_grey
from tasks.datasets.data_folder import find_file
from tasks.datasets.embedded import DATA_DIR, IMAGES, TEXTS, embedded_images
from tasks.datasets.load import load_dataset
from tasks.datasets.npz_source import NpzFile

SOURCE = Path(__file__).resolve().parents[4] / "shared" / "data"
FILE = "fashion_mnist_8x8.npz"
needs_originals = pytest.mark.skipif(not SOURCE.exists(), reason="the original images are not beside the checkout")


@pytest.fixture(autouse=True)
def no_other_source(tmp_path, monkeypatch):
    """Nothing of the machine: no folder but the one a test names, nothing that tensorflow-datasets could do."""
    monkeypatch.delenv("LEARNED_OPT_DATA", raising=False)
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "none"))
    monkeypatch.setattr("tasks.datasets.tfds_source.is_installed", lambda module: False)


@pytest.fixture(scope="module")
def data():
    return load_dataset("fashion_mnist", image_size=8, grey=True)


@pytest.fixture(scope="module")
def alphabets():
    return load_dataset("omniglot_alphabets")


def test_splits_of_fashion_mnist(data):
    sizes = {"train": 48_000, "inner_valid": 6_000, "outer_valid": 6_000, "test": 10_000}
    assert {split: len(part["label"]) for split, part in data.items()} == sizes
    for split, part in data.items():
        assert part["image"].shape == (sizes[split], 8, 8, 1) and part["image"].dtype == np.uint8
        assert part["label"].dtype == np.int32
        counts = np.bincount(part["label"], minlength=10) / sizes[split]
        assert counts.shape == (10,) and abs(counts - 0.1).max() < 0.012
    train = np.concatenate([data[s]["label"] for s in ("train", "inner_valid", "outer_valid")])
    np.testing.assert_array_equal(np.bincount(train), np.full(10, 6_000))
    np.testing.assert_array_equal(np.bincount(data["test"]["label"]), np.full(10, 1_000))
    # The labels of the original file begin with an ankle boot, two T-shirts, a dress.
    np.testing.assert_array_equal(train[:6], [9, 0, 0, 3, 0, 2])


def test_splits_of_omniglot_alphabets(alphabets):
    """Every character is in every split, 14 times in train and twice in the others."""
    characters = np.array([20, 26, 26, 26, 26, 26, 45, 45, 41, 26, 47, 40, 30, 45, 46, 28, 23, 25, 42, 26])
    assert characters.sum() == 659
    for split, drawers in {"train": 14, "inner_valid": 2, "outer_valid": 2, "test": 2}.items():
        part = alphabets[split]
        assert part["image"].shape == (659 * drawers, 16, 16, 1) and part["image"].dtype == np.uint8
        assert part["label"].dtype == np.int32
        np.testing.assert_array_equal(np.bincount(part["label"]), characters * drawers)
        # Drawer by drawer, each in the order of the alphabets.
        np.testing.assert_array_equal(part["label"], np.tile(np.repeat(np.arange(20), characters), drawers))


def test_omniglot_alphabets_at_8_are_means_of_boxes(alphabets):
    small = load_dataset("omniglot_alphabets", image_size=8)
    for split in SPLITS:
        boxes = alphabets[split]["image"].reshape(-1, 8, 2, 8, 2, 1).mean((2, 4))
        np.testing.assert_array_equal(small[split]["image"], np.rint(boxes))
        np.testing.assert_array_equal(small[split]["label"], alphabets[split]["label"])


def test_every_embedded_file_is_the_registered_one_and_small():
    for file in [*(entry.file for entry in IMAGES.values()), *TEXTS.values()]:
        content = (DATA_DIR / file.file_name).read_bytes()
        assert hashlib.sha256(content).hexdigest() == file.sha256
        assert file.sha256 in (DATA_DIR / "README.md").read_text() and len(content) < 3.5e6


def test_a_damaged_or_missing_embedded_file_gives_one_clear_line(tmp_path):
    content = bytearray((DATA_DIR / FILE).read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / FILE).write_bytes(content)
    with pytest.raises(ValueError, match=r"fashion_mnist_8x8\.npz is damaged .*from git") as error:
        embedded_images("fashion_mnist", 8, tmp_path)
    assert "\n" not in str(error.value)
    (tmp_path / FILE).unlink()
    with pytest.raises(FileNotFoundError, match=r"fashion_mnist_8x8\.npz is missing"):
        embedded_images("fashion_mnist", 8, tmp_path)


def test_shrink_is_jax_image_resize_without_antialiasing():
    images = np.random.default_rng(0).integers(0, 256, (20, 28, 28), np.uint8)
    resized = jax.image.resize(images.astype(np.float32), (20, 8, 8), method="linear", antialias=False)
    np.testing.assert_array_equal(shrink(images), np.asarray(jnp.rint(resized), np.uint8))


def write_npz(path: Path, num_train: int = 50, num_test: int = 7, size: int = 4) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(num_train)
    arrays = {
        "x_train": rng.integers(0, 256, (num_train, size, size, 3), np.uint8),
        "y_train": np.arange(num_train) % 10,
        "x_test": rng.integers(0, 256, (num_test, size, size, 3), np.uint8),
        "y_test": np.arange(num_test) % 10,
    }
    path.parent.mkdir(exist_ok=True)
    np.savez_compressed(path, **arrays)
    return arrays


@pytest.mark.parametrize("place", ["imagenet_resized_4x4.npz", "small/imagenet_resized_4x4.npz"])
def test_npz_files_of_the_folder(tmp_path, monkeypatch, place):
    arrays = write_npz(tmp_path / place)
    given = load_dataset("imagenet_resized/4x4", data_dir=tmp_path)
    monkeypatch.setenv("LEARNED_OPT_DATA", str(tmp_path))
    for data in (given, load_dataset("imagenet_resized/4x4")):
        assert {split: len(part["label"]) for split, part in data.items()} == dict(
            zip(SPLITS, (40, 5, 5, 7), strict=True)
        )
        for leaf, x, dtype in (("image", "x", np.uint8), ("label", "y", np.int32)):
            whole = np.concatenate([data[split][leaf] for split in SPLITS])
            assert whole.dtype == dtype
            np.testing.assert_array_equal(whole, np.concatenate([arrays[f"{x}_train"], arrays[f"{x}_test"]]))
    small = load_dataset("imagenet_resized/4x4", image_size=2, grey=True)
    assert small["test"]["image"].shape == (7, 2, 2, 1)


def test_bits_and_drawers_of_omniglot(tmp_path, monkeypatch):
    """Three characters by 20 drawers, of 3x3 pixels; the sixty drawings are the numbers from 0 to 59 in binary."""
    drawings = (np.arange(60)[:, None] >> np.arange(9) & 1).astype(np.uint8)
    arrays = {"x_test_bits": np.packbits(drawings, axis=1), "y_test": np.repeat(np.arange(3), 20)}
    arrays |= {"x_train_bits": arrays["x_test_bits"][:5], "y_train": arrays["y_test"][:5], "shape": np.array([3, 3])}
    np.savez(tmp_path / "omniglot.npz", **arrays)
    sha256 = hashlib.sha256((tmp_path / "omniglot.npz").read_bytes()).hexdigest()
    monkeypatch.setattr("tasks.datasets.npz_source.FILES", {"omniglot": [NpzFile("omniglot.npz", sha256)]})
    data = load_dataset("omniglot", data_dir=tmp_path)
    for split, drawers in {
        "train": range(14),
        "inner_valid": (14, 15),
        "outer_valid": (16, 17),
        "test": (18, 19),
    }.items():
        number = (data[split]["image"].reshape(-1, 9) // 255 * 2 ** np.arange(9)).sum(1)
        assert data[split]["image"].max() == 255
        np.testing.assert_array_equal(number, [20 * character + d for d in drawers for character in range(3)])
        np.testing.assert_array_equal(data[split]["label"], number // 20)


def test_a_known_file_with_other_bytes_is_refused(tmp_path):
    write_npz(tmp_path / "mnist.npz")
    with pytest.raises(ValueError, match=r"mnist\.npz is damaged \(sha256 .*expected 6eed3e33.*fetch the file again"):
        load_dataset("mnist", data_dir=tmp_path)


def test_an_incomplete_file_is_refused(tmp_path):
    np.savez(tmp_path / "photos.npz", x_train=np.zeros((3, 2, 2), np.uint8), y_train=np.zeros(3, int))
    with pytest.raises(ValueError, match=r"photos\.npz needs uint8 images .*has \['x_train', 'y_train'\]"):
        load_dataset("photos", data_dir=tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x_train": np.zeros((50, 4, 4))}, r"x_train is float64 \[50, 4, 4\]: store pixels 0 to 255 as uint8"),
        (
            {"x_test": np.zeros((7, 16), np.uint8)},
            r"x_test is uint8 \[7, 16\]: store pixels .* \[images, height, width\]",
        ),
        (
            {"y_train": np.zeros(49, int)},
            r"y_train is int64 \[49\]: store a whole number from 0 for each of the 50 images",
        ),
        ({"y_test": np.eye(7)}, r"y_test is float64 \[7, 7\]: store a whole number"),
        ({"y_test": np.array(list("abcdefg"))}, r"y_test is <U1 \[7\]: store a whole number"),
        ({"y_train": 1 + np.arange(50) % 5, "y_test": 1 + np.arange(7) % 5}, "labels begin at 1: count classes from 0"),
        ({"x_train": np.zeros((9, 4, 4), np.uint8), "y_train": np.zeros(9, int)}, "9 images in x_train, 7 .* at least"),
        ({"x_test": np.zeros((0, 4, 4), np.uint8), "y_test": np.zeros(0, int)}, "50 images in x_train, 0 in x_test"),
        ({"y_test": np.array([[], 1], object)}, "damaged, no .npz file, or not of numbers alone: write it"),
    ],
)
def test_odd_arrays_of_ones_own_are_named(tmp_path, change, message):
    arrays = write_npz(tmp_path / "photos.npz")
    np.savez(tmp_path / "photos.npz", **{**arrays, **change})
    with pytest.raises(ValueError, match=r"photos\.npz: " + message) as caught:
        load_dataset("photos", data_dir=tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"PK33", b"a,b,c"])
def test_what_is_no_npz_file(tmp_path, content):
    (tmp_path / "photos.npz").write_bytes(content)
    with pytest.raises(ValueError, match=r"photos\.npz: damaged, no \.npz file"):
        load_dataset("photos", data_dir=tmp_path)


def test_one_part_of_a_dataset_is_not_the_dataset(tmp_path):
    write_npz(tmp_path / "cifar10_part0.npz")
    with pytest.raises(FileNotFoundError, match=r"hold neither cifar10_part0\.npz \+ cifar10_part1\.npz"):
        load_dataset("cifar10", data_dir=tmp_path)


@pytest.mark.parametrize(
    ("name", "given", "parts"),
    [
        ("svhn_cropped", True, ["{folder} and its small/ hold neither svhn_cropped.npz", "svhn_cropped/<version>/"]),
        ("svhn_cropped", False, ["neither data_dir nor LEARNED_OPT_DATA names a folder with svhn_cropped.npz"]),
        ("fashion_mnits", True, ["did you mean fashion_mnist?"]),
        ("fashion_mnist", False, ["the repository has fashion_mnist at 8x8", "fashion_mnist.npz"]),
    ],
)
def test_a_missing_dataset_says_what_was_looked_for_and_how_to_get_it(tmp_path, name, given, parts):
    with pytest.raises(FileNotFoundError) as error:
        load_dataset(name, data_dir=tmp_path if given else None)
    message = str(error.value)
    assert "\n" not in message
    everywhere = ["x_train", "LEARNED_OPT_DATA", "not installed", "learned-opt[data]", "pip install -e '.[data]'"]
    for part in parts + everywhere:
        assert part.format(folder=tmp_path) in message


def test_a_folder_that_is_not_there(tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError, match="^data_dir=.*/nowhere: there is no such folder$"):
        load_dataset("mnist", data_dir=tmp_path / "nowhere")
    monkeypatch.setenv("LEARNED_OPT_DATA", str(tmp_path / "nowhere"))
    with pytest.raises(FileNotFoundError, match="^LEARNED_OPT_DATA=.*/nowhere: there is no such folder$"):
        load_dataset("mnist")


@pytest.mark.parametrize("image_size", [0, 17])
def test_bad_image_size(image_size):
    with pytest.raises(ValueError, match=f"image_size={image_size}: the images are 16x16"):
        load_dataset("omniglot_alphabets", image_size)


@needs_originals
@pytest.mark.slow
def test_embedded_images_are_rebuilt_from_the_original(data):
    source = read_source(SOURCE)
    first, last = slice(0, 50), slice(-50, None)
    images = {split: part["image"][..., 0] for split, part in data.items()}
    np.testing.assert_array_equal(images["train"][first], shrink(source["x_train"][first]))
    np.testing.assert_array_equal(images["test"][last], shrink(source["x_test"][last]))
    np.testing.assert_array_equal(data["outer_valid"]["label"], source["y_train"][54_000:])
    np.testing.assert_array_equal(data["test"]["label"], source["y_test"])


@needs_originals
def test_embedded_omniglot_is_rebuilt_from_the_original_and_cut_by_drawer(alphabets):
    path = find_file(SOURCE, "omniglot.npz")
    assert path
    with np.load(path) as archive:
        bits, alphabet = archive["x_test_bits"], archive["alphabet_test"].astype(int)
    train = alphabets["train"]["image"].reshape(14, 659, 16, 16)
    for character in (0, 300, 658):
        found = [*train[:, character], alphabets["inner_valid"]["image"][character, ..., 0]]
        np.testing.assert_array_equal(found, drawings_to_grey(bits[20 * character : 20 * character + 15]))
    # Everyone uses ink in their own way: if the order is by drawer, the place in the order explains far more of the
    # variance of ink within an alphabet than the 1 / (characters) of shuffled drawings.
    ink = np.unpackbits(bits, axis=1).sum(1).reshape(659, 20).astype(float)
    ink -= ink.mean(1, keepdims=True)
    alphabet = alphabet[::20]

    def explained(ink):
        by_drawer = [(ink[alphabet == a].mean(0) ** 2).sum() * (alphabet == a).sum() for a in range(20)]
        return sum(by_drawer) / (ink**2).sum()

    shuffled = np.random.default_rng(0).permuted(ink, axis=1)
    assert explained(ink) > 0.3 and explained(shuffled) < 0.04


@needs_originals
@pytest.mark.slow
def test_omniglot_of_the_folder_has_the_drawings_of_the_embedded_one(alphabets):
    data = load_dataset("omniglot", image_size=16, data_dir=SOURCE)
    for split in SPLITS:
        np.testing.assert_array_equal(data[split]["image"], alphabets[split]["image"])
        assert len(np.unique(data[split]["label"])) == 659


@needs_originals
@pytest.mark.slow
def test_cifar10_has_the_published_mean_and_classes():
    data = load_dataset("cifar10", data_dir=SOURCE)
    train = np.concatenate([data[split]["image"] for split in ("train", "inner_valid", "outer_valid")])
    np.testing.assert_allclose(train.mean((0, 1, 2)) / 255, [0.4914, 0.4822, 0.4465], atol=5e-5)
    labels = np.concatenate([data[split]["label"] for split in ("train", "inner_valid", "outer_valid")])
    np.testing.assert_array_equal(np.bincount(labels), np.full(10, 5_000))
    np.testing.assert_array_equal(np.bincount(data["test"]["label"]), np.full(10, 1_000))


@needs_originals
@pytest.mark.slow
@pytest.mark.parametrize(("name", "mean"), [("mnist", 0.1307), ("fashion_mnist", 0.2860)])
def test_grey_sets_have_the_published_mean(name, mean):
    data = load_dataset(name, data_dir=SOURCE)
    train = np.concatenate([data[split]["image"] for split in ("train", "inner_valid", "outer_valid")])
    assert train.shape == (60_000, 28, 28, 1) and round(train.mean() / 255, 4) == mean
