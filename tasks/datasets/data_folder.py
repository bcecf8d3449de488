"""The folder with the user's own copies of datasets, and what to say when a dataset is nowhere."""

import difflib
import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

VARIABLE = "LEARNED_OPT_DATA"
INSTALL = "the extra learned-opt[data] (in the checkout: pip install -e '.[data]')"


def data_folder(data_dir: str | Path | None) -> Path | None:
    """`data_dir`, else the folder that LEARNED_OPT_DATA names, else None.

    Raises:
      FileNotFoundError: the folder does not exist.
    """
    origin = "data_dir" if data_dir else VARIABLE
    name = data_dir or os.environ.get(VARIABLE)
    if not name:
        return None
    folder = Path(name).expanduser()
    if not folder.is_dir():
        raise FileNotFoundError(f"{origin}={name}: there is no such folder")
    return folder


def find_file(folder: Path, file_name: str) -> Path | None:
    """The file in the folder itself or in its `small/`."""
    for path in (folder / file_name, folder / "small" / file_name):
        if path.is_file():
            return path
    return None


def read_verified(path: Path, sha256: str, remedy: str) -> bytes:
    """The bytes of a file whose sha256 is known.

    Args:
      path: the file.
      sha256: in hexadecimal.
      remedy: what the user should do if it is missing or another one.

    Raises:
      ValueError: another sha256.
      FileNotFoundError: no such file.
    """
    if not path.exists():
        raise FileNotFoundError(f"{path} is missing: {remedy}")
    content = path.read_bytes()
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        raise ValueError(f"{path} is damaged (sha256 {found[:12]}..., expected {sha256[:12]}...): {remedy}")
    return content


class Wanted(NamedTuple):
    """What was looked for.

    Attributes:
      name: of the dataset.
      files: names of the files that would hold it, all of them needed.
      content: what the files hold, in a few words.
      embedded: what the repository holds, in a few words.
      known: names that the user may have meant.
    """

    name: str
    files: Sequence[str]
    content: str
    embedded: str
    known: Sequence[str]


def missing_dataset(wanted: Wanted, folder: Path | None, obstacle: str) -> FileNotFoundError:
    """One line: what was looked for and where, why it cannot be downloaded, what to do.

    Args:
      wanted: the dataset.
      folder: where it was looked for; None if no folder is set.
      obstacle: why tensorflow-datasets did not deliver it.
    """
    name, files = wanted.name, " + ".join(wanted.files)
    near = [] if name in wanted.known else difflib.get_close_matches(name, wanted.known)
    meant = f" (did you mean {' or '.join(near)}?)" if near else ""
    prepared = f"{name}/<version>/dataset_info.json of tensorflow-datasets"
    looked = (
        f"{folder} and its small/ hold neither {files} nor {prepared}"
        if folder
        else f"neither data_dir nor {VARIABLE} names a folder with {files} or {prepared}"
    )
    return FileNotFoundError(
        f"dataset {name!r} not found{meant}: the repository has {wanted.embedded}; {looked}; {obstacle}. "
        f"Put {files} ({wanted.content}) or the prepared dataset in a folder, name it in {VARIABLE}, "
        f"or download it with {INSTALL} and tensorflow-cpu"
    )
