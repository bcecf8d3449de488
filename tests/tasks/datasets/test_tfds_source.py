"""Prepared folders of tensorflow-datasets. They are made here, of a handful of images, by builders in a process
of their own, which does not import TensorFlow."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tasks.datasets import tfds_source
from tasks.datasets.load import load_dataset
from tasks.datasets.text import load_text
from tasks.datasets.tfds_source import find_sources, read_images

ROOT = Path(__file__).resolve().parents[3]
pytest.importorskip("tensorflow_datasets")
pytest.importorskip("array_record")

PREPARE = """
import io, sys
import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

class Base(tfds.core.GeneratorBasedBuilder):
    VERSION = tfds.core.Version("1.0.0")
    def _info(self):
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(self.FEATURES))
    def _split_generators(self, dl_manager):
        return {split: self._generate_examples(*rows) for split, rows in self.SPLITS.items()}

def png(array):
    # A file rather than an array, which tensorflow-datasets would encode with TensorFlow.
    file = io.BytesIO()
    Image.fromarray(array).save(file, "PNG")
    file.seek(0)
    return file

class TinyPhotos(Base):
    FEATURES = {"image": tfds.features.Image(shape=(4, 4, 3)), "label": tfds.features.ClassLabel(num_classes=40)}
    SPLITS = {"train": (0, 30), "validation": (30, 34)}
    def _generate_examples(self, start, stop):
        for label in range(start, stop):
            pixels = np.random.default_rng(label).integers(0, 256, (4, 4, 3), np.uint8)
            yield label, {"image": png(pixels), "label": label}

class TinyTales(Base):
    FEATURES = {"text": tfds.features.Text()}
    SPLITS = {"train": (0, 50)}
    def _generate_examples(self, start, stop):
        for number in range(start, stop):
            yield number, {"text": f"tale {number:03d} told"}

for builder in (TinyPhotos, TinyTales):
    builder(data_dir=sys.argv[1], file_format="array_record").download_and_prepare()
    assert "tensorflow" not in sys.modules
"""

READ = """
from tasks.datasets.load import load_dataset
from tasks.datasets.text import load_text
images, text = load_dataset("tiny_photos", data_dir=sys.argv[1]), load_text("tiny_tales", sys.argv[1], row_length=14)
for split, part in images.items():
    np.savez(f"{sys.argv[1]}/{split}.npz", **part, **text[split])
assert "tensorflow" not in sys.modules
"""


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A folder with the two datasets, and what another process read from it."""
    folder = tmp_path_factory.mktemp("tfds")
    command = [sys.executable, "-c", PREPARE + READ, str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


def expected_image(label: int) -> np.ndarray:
    return np.random.default_rng(label).integers(0, 256, (4, 4, 3), np.uint8)


def test_prepared_images_and_text_are_read_without_tensorflow(prepared):
    data = {split: np.load(prepared / f"{split}.npz") for split in ("train", "inner_valid", "outer_valid", "test")}
    sizes = {"train": 24, "inner_valid": 3, "outer_valid": 3, "test": 4}
    assert {split: len(part["label"]) for split, part in data.items()} == sizes
    for split, part in data.items():
        assert part["image"].dtype == np.uint8 and part["label"].dtype == np.int32, split
        for image, label in zip(part["image"], part["label"], strict=True):
            np.testing.assert_array_equal(image, expected_image(label))
    originals = np.concatenate([data[split]["label"] for split in ("train", "inner_valid", "outer_valid")])
    assert sorted(originals) == list(range(30)) and sorted(data["test"]["label"]) == list(range(30, 34))
    # A row of 14 bytes is one tale of 13 and its newline.
    rows = {row.tobytes() for part in data.values() for row in part["tokens"]}
    assert rows == {f"tale {number:03d} told\n".encode() for number in range(50)}


def test_images_are_resized_and_turned_grey_on_the_way(prepared, monkeypatch):
    monkeypatch.setenv("LEARNED_OPT_DATA", str(prepared))
    part = load_dataset("tiny_photos", image_size=1, grey=True)["test"]
    assert part["image"].shape == (4, 1, 1, 1)
    for image, label in zip(part["image"], part["label"], strict=True):
        luma = expected_image(label) @ [0.299, 0.587, 0.114]
        assert abs(float(image.item()) - luma.mean()) <= 1


def test_reading_a_text_stops_at_max_bytes(prepared):
    data = load_text("tiny_tales", data_dir=prepared, row_length=5, max_bytes=100)
    assert sum(len(part["tokens"]) for part in data.values()) == 20


def test_a_dataset_of_another_kind_is_refused(prepared):
    with pytest.raises(ValueError, match=r"tiny_tales has the splits \['train'\]"):
        load_dataset("tiny_tales", data_dir=prepared)
    with pytest.raises(ValueError, match="tiny_photos is no text"):
        load_text("tiny_photos", data_dir=prepared)


def test_a_prepared_folder_without_the_extra_says_what_to_install(prepared, monkeypatch):
    monkeypatch.setattr(tfds_source, "is_installed", lambda module: False)
    with pytest.raises(ValueError, match=r"tiny_photos is prepared in .*install the extra learned-opt\[data\]"):
        load_dataset("tiny_photos", data_dir=prepared)


def test_a_format_without_random_access_says_so(tmp_path):
    folder = tmp_path / "mnist" / "3.0.1"
    folder.mkdir(parents=True)
    (folder / "dataset_info.json").write_text('{"name": "mnist", "version": "3.0.1", "fileFormat": "tfrecord"}')
    with pytest.raises(ValueError, match="prepare it again with file_format='array_record'") as error:
        load_dataset("mnist", data_dir=tmp_path)
    assert "\n" not in str(error.value)


def test_nothing_is_downloaded_where_it_could_not_be_prepared(tmp_path, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "none"))
    monkeypatch.setattr(tfds_source, "is_installed", lambda module: module != "tensorflow")
    monkeypatch.setattr(tfds_source, "download", lambda *arguments: pytest.fail("tried to download"))
    with pytest.raises(FileNotFoundError, match="needs tensorflow to prepare it"):
        load_dataset("cifar100", data_dir=tmp_path)


def test_a_failed_download_is_one_line(tmp_path, monkeypatch):
    import tensorflow_datasets as tfds

    asked = []

    def offline(name, **arguments):
        asked.append((name, arguments["data_dir"], arguments["download"]))
        raise ConnectionError("no route\nto the host")

    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "default"))
    monkeypatch.setattr(tfds_source, "is_installed", lambda module: True)
    monkeypatch.setattr(tfds, "data_source", offline)
    with pytest.raises(FileNotFoundError, match=r"failed \(ConnectionError: no route\)") as error:
        load_dataset("cifar100")
    assert "\n" not in str(error.value) and asked == [("cifar100", tmp_path / "default", True)]


def test_omniglot_is_cut_within_characters_with_ink_bright():
    """Twenty drawings of three characters in a shuffled order: black strokes on white, in three channels."""
    order = np.random.default_rng(0).permutation(60)
    drawings = np.full((60, 5, 5, 3), 255, np.uint8)
    drawings[np.arange(60), 2, np.arange(60) % 5] = 0
    names = np.array([100, 700, 900])
    source = [{"image": drawings[i], "label": names[i % 3]} for i in order]
    data = read_images("omniglot", {"train": [], "test": source}, lambda images: images)
    sizes = {"train": 42, "inner_valid": 6, "outer_valid": 6, "test": 6}
    assert {split: len(part["label"]) for split, part in data.items()} == sizes
    for split, part in data.items():
        np.testing.assert_array_equal(np.bincount(part["label"]), np.full(3, sizes[split] // 3))
        assert part["image"].shape[1:] == (5, 5, 1) and (part["image"].sum((1, 2, 3)) == 255).all()
    whole = np.concatenate([part["image"] for part in data.values()])
    np.testing.assert_array_equal(np.bincount(whole[:, 2, :, 0].argmax(1)), np.full(5, 12))


def test_images_of_different_sizes_and_missing_features_are_refused():
    examples = [{"image": np.zeros((size, 4, 1), np.uint8), "label": 0} for size in (4, 5)]
    with pytest.raises(ValueError, match=r"photos has images of different sizes, e\.g\. \(4, 4, 1\) and \(5, 4, 1\)"):
        read_images("photos", {"train": examples, "test": examples}, lambda images: images)
    with pytest.raises(ValueError, match=r"photos has the features \['image'\]"):
        examples = [{"image": np.zeros((4, 4, 1), np.uint8)}]
        read_images("photos", {"train": examples, "test": examples}, lambda images: images)


def test_the_folder_comes_before_the_default_folder(prepared, tmp_path, monkeypatch):
    opened = []
    monkeypatch.setattr(tfds_source, "open_prepared", lambda name, folder: opened.append(folder) or {})
    monkeypatch.setenv("TFDS_DATA_DIR", str(prepared))
    find_sources("tiny_photos", tmp_path)
    (tmp_path / "tiny_photos" / "1.0.0").mkdir(parents=True)
    (tmp_path / "tiny_photos" / "1.0.0" / "dataset_info.json").write_text("{}")
    find_sources("tiny_photos", tmp_path)
    assert opened == [prepared, tmp_path]
