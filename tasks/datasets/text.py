"""Text as bytes: a dataset is one long text, cut into rows of equal length.

Rows are consecutive and do not overlap; the rest that fills no row is dropped. A row of L bytes serves L - 1
predictions of the next byte. The first 80 % of the rows are `train`, then 5 % `inner_valid`, 5 % `outer_valid` and 10
% `test`: whole stretches of the text, so that no sentence is in two splits but those at the cuts.
"""

import gzip
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tasks.base import Data
from tasks.datasets.data_folder import Wanted, data_folder, find_file, missing_dataset
from tasks.datasets.data_splits import split_contiguous_text
from tasks.datasets.embedded import TEXTS, read_embedded
from tasks.datasets.tfds_source import find_sources

MIN_ROWS = 20


def load_text(
    name: str, data_dir: str | Path | None = None, row_length: int = 65, max_bytes: int | None = None
) -> Data:
    """Loads a text, looked for in the same order as images in `tasks.datasets.load`.

    Args:
      name: "tiny_shakespeare" is embedded (1,115,394 bytes). In a folder: `NAME.txt` or `NAME.txt.gz` (a slash in the
        name written as `_`), or a dataset of tensorflow-datasets whose examples have a `text`, e.g. "lm1b": those of
        its training set are joined by newlines.
      data_dir: the user's folder; None takes it from the environment variable LEARNED_OPT_DATA.
      row_length: bytes in a row, L.
      max_bytes: only the first bytes of the text, which also bounds the time to read a large dataset (about 0.2 ms an
        example); None is all of it.

    Returns:
      `{split: {"tokens": uint8[N, L]}}`, NumPy arrays.

    Raises:
      FileNotFoundError: the text is nowhere, or there is no such folder; one line says what was looked for and where.
      ValueError: row_length below 2, or a text (or max_bytes) of fewer than 20 rows.
    """
    if row_length < 2:
        raise ValueError(f"row_length={row_length}: a row needs at least 2 bytes, one to see and one to predict")
    text = np.frombuffer(_read(name, data_dir, max_bytes)[:max_bytes], np.uint8)
    num_rows = len(text) // row_length
    if num_rows < MIN_ROWS:
        raise ValueError(
            f"{name} has {len(text)} bytes: {MIN_ROWS} rows of {row_length} bytes are needed for four splits"
        )
    return split_contiguous_text(text[: num_rows * row_length].reshape(num_rows, row_length))


def _read(name: str, data_dir: str | Path | None, max_bytes: int | None) -> bytes:
    if name in TEXTS:
        return gzip.decompress(read_embedded(TEXTS[name]))
    folder = data_folder(data_dir)
    file_name = f"{name.replace('/', '_')}.txt"
    if folder and (path := find_file(folder, file_name)):
        return path.read_bytes()
    if folder and (path := find_file(folder, f"{file_name}.gz")):
        return gzip.decompress(path.read_bytes())
    sources = find_sources(name, folder)
    if isinstance(sources, str):
        wanted = Wanted(name, [file_name], "the text itself, also as .txt.gz", " and ".join(TEXTS), [*TEXTS, "lm1b"])
        raise missing_dataset(wanted, folder, sources)
    if "train" not in sources or "text" not in sources["train"][0]:
        raise ValueError(
            f"{name} is no text: a split `train` with a feature `text` is needed, it has {sorted(sources)}"
        )
    return _joined(sources["train"], max_bytes)


def _joined(examples: Sequence[Any], max_bytes: int | None) -> bytes:
    """The texts of the examples, each followed by a newline, until there are `max_bytes`."""
    text = bytearray()
    for i in range(len(examples)):
        if max_bytes is not None and len(text) >= max_bytes:
            break
        text += examples[i]["text"] + b"\n"
    return bytes(text)
