"""JSON files that say which version of their format they have."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from learned_opt.atomic_file import write_atomic


class JsonFormat(NamedTuple):
    """One kind of file.

    Attributes:
      what: its name in messages, e.g. "results file".
      version: the newest that this code reads, and the one it writes.
      made_by: what writes such a file.
      indent: spaces a level; None: everything on one line.
      holds: fields that tell it from files of another kind.
    """

    what: str
    version: int
    made_by: str
    indent: int | None = None
    holds: tuple[str, ...] = ()

    def write(self, path: str | os.PathLike[str], fields: Mapping[str, Any]) -> None:
        """Writes the file atomically: the version, then the fields in their order.

        Raises:
          ValueError: a number among them that is not finite.
          OSError: the file cannot be written; an older one is then untouched.
        """
        document = {"format_version": self.version, **fields}
        write_atomic(path, (json.dumps(document, indent=self.indent, allow_nan=False) + "\n").encode())

    def read(self, path: str | os.PathLike[str]) -> dict[str, Any]:
        """The fields of a file, without the version.

        Raises:
          FileNotFoundError: there is none.
          ValueError: a folder, damaged, something else, or of a newer version.
        """
        name = os.fspath(path)
        try:
            document = json.loads(Path(path).read_bytes())
        except (FileNotFoundError, NotADirectoryError):
            raise FileNotFoundError(f"{name}: no such {self.what}; {self.made_by} writes one") from None
        except IsADirectoryError:
            raise ValueError(f"{name}: is a folder; name the {self.what} in it") from None
        except ValueError as error:
            raise ValueError(f"{name}: damaged or not JSON ({error}); {self.made_by} writes it anew") from None
        version = document.pop("format_version", None) if isinstance(document, dict) else None
        if type(version) is not int or not document.keys() >= set(self.holds):
            raise ValueError(f"{name}: not a {self.what}; {self.made_by} writes one")
        if version > self.version:
            raise ValueError(f"{name}: format version {version}, this code reads a {self.what} up to {self.version}")
        return document
