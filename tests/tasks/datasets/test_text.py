import gzip
import hashlib

import numpy as np
import pytest

from tasks.base import SPLITS
from tasks.datasets.text import load_text


def test_tiny_shakespeare_is_the_published_text():
    data = load_text("tiny_shakespeare", row_length=2)
    text = np.concatenate([data[split]["tokens"] for split in SPLITS]).tobytes()
    # The checksum that tensorflow-datasets registers for the text.
    expected = "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed"
    assert len(text) == 1_115_394 and hashlib.sha256(text).hexdigest() == expected


def test_rows_are_consecutive_and_splits_contiguous():
    data = load_text("tiny_shakespeare")
    num_rows = 1_115_394 // 65
    assert {split: len(data[split]["tokens"]) for split in SPLITS} == {
        "train": num_rows * 80 // 100,
        "inner_valid": num_rows * 85 // 100 - num_rows * 80 // 100,
        "outer_valid": num_rows * 90 // 100 - num_rows * 85 // 100,
        "test": num_rows - num_rows * 90 // 100,
    }
    whole = load_text("tiny_shakespeare", row_length=2)
    text = np.concatenate([whole[split]["tokens"] for split in SPLITS]).ravel()
    for split, part in data.items():
        assert part["tokens"].shape[1] == 65 and part["tokens"].dtype == np.uint8, split
    np.testing.assert_array_equal(np.concatenate([data[s]["tokens"] for s in SPLITS]).ravel(), text[: num_rows * 65])
    assert data["train"]["tokens"][0].tobytes().startswith(b"First Citizen:\nBefore we proceed any further")


@pytest.mark.parametrize("packed", [False, True])
def test_text_files_of_the_folder(tmp_path, monkeypatch, packed):
    text = bytes(range(256)) * 10
    (tmp_path / "small").mkdir()
    if packed:
        (tmp_path / "small" / "org_stories.txt.gz").write_bytes(gzip.compress(text))
    else:
        (tmp_path / "org_stories.txt").write_bytes(text)
    monkeypatch.setenv("LEARNED_OPT_DATA", str(tmp_path))
    data = load_text("org/stories", row_length=10)
    assert b"".join(data[split]["tokens"].tobytes() for split in SPLITS) == text
    head = load_text("org/stories", row_length=10, max_bytes=1_009)
    assert b"".join(head[split]["tokens"].tobytes() for split in SPLITS) == text[:1_000]


def test_missing_text_says_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "none"))
    monkeypatch.setattr("tasks.datasets.tfds_source.is_installed", lambda module: False)
    with pytest.raises(
        FileNotFoundError, match=r"dataset 'lm1b' not found.*lm1b\.txt.*LEARNED_OPT_DATA.*\[data\]"
    ) as error:
        load_text("lm1b", data_dir=tmp_path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"row_length": 1}, "row_length=1: a row needs at least 2"),
        ({"max_bytes": 1_299}, "tiny_shakespeare has 1299 bytes: 20 rows of 65"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        load_text("tiny_shakespeare", **arguments)
