"""The folder of one run: what is in it, and how it survives kills, full disks and damaged bytes.

    RUN/config.json     resolved settings        RUN/provenance.jsonl   one row per start
    RUN/metrics.jsonl   one row per meta-step    RUN/LOCK               held by the writing process
    RUN/checkpoints/step_XXXXXXXX/{arrays.safetensors, meta.json, MANIFEST.json}
    RUN/logs/rank_N.log what each process of a group printed

A checkpoint is written into a temporary folder, synced, and renamed into place, so it exists whole
or not at all. Its manifest holds size and SHA-256 of the other two files; reading takes the newest
step whose manifest is exactly what its files give, else the one before. A file is taken into memory only after its
size and SHA-256 agree with the manifest, and nothing is pickled, so a damaged or hostile folder costs nothing.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import re
import shutil
import socket
import stat
import time
from collections.abc import Iterator, Mapping
from io import BufferedReader
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import safetensors
import safetensors.numpy
from safetensors import SafetensorError

from learned_opt.atomic_file import sync_folder, write_atomic, write_synced

FORMAT_VERSION = 1
_ARRAYS, _META, _MANIFEST = "arrays.safetensors", "meta.json", "MANIFEST.json"
_TEMPORARY, _DELETED, _DAMAGED = ".tmp-", ".del-", "damaged-"
_ABANDONED = ("LOCK", "logs")
_MAX_JSON_BYTES = 16 * 2**20
_STEP = re.compile(r"step_(\d{8,})")


class StoredCheckpoint(NamedTuple):
    """One checkpoint.

    Attributes:
      step: meta-steps done.
      arrays: name -> array.
      meta: JSON values saved beside them.
    """

    step: int
    arrays: dict[str, np.ndarray]
    meta: dict[str, Any]


class Damage(NamedTuple):
    """A checkpoint folder that was not used, and why."""

    folder: Path
    reason: str


def create_run(run_dir: Path) -> None:
    """Creates the folder; one that holds only an abandoned start (no config.json) is taken over.

    Raises:
      ValueError: a run or anything else is in it, or it cannot be created.
    """
    try:
        run_dir.mkdir(parents=True, exist_ok=True)
        entries = [entry.name for entry in run_dir.iterdir()]
    except OSError as error:
        raise ValueError(f"run_dir: {run_dir} cannot be created ({error.strerror}); choose another --run-dir") from None
    if "config.json" in entries:
        raise ValueError(
            f"run_dir: {run_dir} already holds a run; continue it with "
            f"'python -m meta_train resume {run_dir}' or choose another --run-dir"
        )
    if any(name not in _ABANDONED and not name.startswith(_TEMPORARY) for name in entries):
        raise ValueError(f"run_dir: {run_dir} is not empty; choose another --run-dir")


def write_config(run_dir: Path, config: Mapping[str, Any]) -> None:
    """Writes config.json."""
    write_atomic(run_dir / "config.json", (json.dumps(config, indent=2) + "\n").encode())


def read_config(run_dir: Path) -> dict[str, Any]:
    """Reads config.json.

    Raises:
      ValueError: no such run, or a damaged file.
    """
    path = run_dir / "config.json"
    try:
        config = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise ValueError(
            f"run_dir: {run_dir} holds no run (no config.json); 'python -m meta_train PRESET "
            f"--run-dir {run_dir}' starts one"
        ) from None
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"{path}: damaged ({error}); restore it from a backup") from None
    if not isinstance(config, dict):
        raise ValueError(f"{path}: damaged (not a JSON object); restore it from a backup")
    return config


@contextlib.contextmanager
def locked(run_dir: Path) -> Iterator[None]:
    """Holds the run folder; the kernel lets go of it when the process ends, however it ends.

    Raises:
      ValueError: another process holds it.
    """
    with open(run_dir / "LOCK", "a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = file.read().strip() or "another process"
            raise ValueError(
                f"run_dir: {run_dir} is in use by {holder}; wait for it or choose another --run-dir"
            ) from None
        file.truncate(0)
        started = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        file.write(f"process {os.getpid()} on {socket.gethostname()} since {started}\n")
        file.flush()
        sweep(run_dir)
        yield


def sweep(run_dir: Path) -> None:
    """Deletes what an interrupted write left behind; call it only while holding the lock."""
    for folder in (run_dir, run_dir / "checkpoints"):
        for entry in folder.iterdir() if folder.is_dir() else ():
            if entry.name.startswith((_TEMPORARY, _DELETED)):
                if entry.is_dir() and not entry.is_symlink():
                    shutil.rmtree(entry, ignore_errors=True)
                else:
                    entry.unlink()


def save_checkpoint(run_dir: Path, checkpoint: StoredCheckpoint, keep: int) -> Path:
    """Writes a checkpoint, then deletes all but the newest `keep`.

    Raises:
      OSError: it could not be written; every earlier checkpoint is untouched.
    """
    root = run_dir / "checkpoints"
    root.mkdir(exist_ok=True)
    folder = root / f"step_{checkpoint.step:08d}"
    temporary = root / f"{_TEMPORARY}{folder.name}-{os.getpid()}"
    # safetensors writes the buffer as it lies in memory, so it must be in C order.
    arrays = {name: np.array(value, order="C") for name, value in checkpoint.arrays.items()}
    files = {
        _ARRAYS: safetensors.numpy.save(arrays),
        _META: _json_bytes({"step": checkpoint.step, **checkpoint.meta}),
    }
    claims = {name: (len(data), hashlib.sha256(data).hexdigest()) for name, data in files.items()}
    try:
        temporary.mkdir()
        for name, data in files.items():
            write_synced(temporary / name, data)
        write_synced(temporary / _MANIFEST, _manifest(claims))
        sync_folder(temporary)
        if folder.exists():
            _delete(folder)
        os.rename(temporary, folder)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    sync_folder(root)
    for old in list(_step_folders(run_dir).values())[keep:]:
        _delete(old)
    return folder


def read_checkpoint(folder: Path) -> StoredCheckpoint:
    """Reads and verifies one checkpoint folder.

    Raises:
      ValueError: damaged or incomplete, with the file and the reason.
    """
    try:
        _verify(folder)
    except OSError as error:
        raise ValueError(f"{Path(str(error.filename)).name} cannot be read ({error.strerror})") from None
    try:
        meta = json.loads((folder / _META).read_bytes())
        with safetensors.safe_open(folder / _ARRAYS, framework="numpy") as file:
            arrays = {name: file.get_tensor(name) for name in file.keys()}
        return StoredCheckpoint(int(meta.pop("step")), arrays, meta)
    except (SafetensorError, KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise ValueError(f"unreadable although its manifest holds ({error})") from None


def read_step(run_dir: Path, step: int) -> StoredCheckpoint:
    """Reads and verifies the checkpoint of one meta-step; errors as in `read_checkpoint`."""
    checkpoint = read_checkpoint(run_dir / "checkpoints" / f"step_{step:08d}")
    if checkpoint.step != step:
        raise ValueError(f"holds step {checkpoint.step}")
    return checkpoint


def newest_checkpoint(run_dir: Path) -> tuple[StoredCheckpoint | None, list[Damage]]:
    """The newest checkpoint that verifies (None if none does), and the newer ones that do not."""
    damages = []
    for step, folder in _step_folders(run_dir).items():
        try:
            return read_step(run_dir, step), damages
        except ValueError as error:
            damages.append(Damage(folder, str(error)))
    return None, damages


def set_aside(damages: list[Damage]) -> None:
    """Renames damaged checkpoints to damaged-*, so that they count as none; nothing is deleted."""
    for damage in damages:
        target = damage.folder.with_name(_DAMAGED + damage.folder.name)
        if target.exists():
            target = target.with_name(f"{target.name}-{time.time_ns()}")
        os.rename(damage.folder, target)


def append_rows(path: Path, rows: list[dict[str, Any]], *, sync: bool) -> None:
    """Appends JSON lines; with `sync`, waits until the disk has them."""
    with open(path, "ab") as file:
        file.write(b"".join(_json_bytes(row) for row in rows))
        if sync:
            file.flush()
            os.fsync(file.fileno())


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a JSON-lines file without torn or damaged ones; none if there is no file."""
    rows = []
    for line in path.read_bytes().splitlines() if path.exists() else ():
        with contextlib.suppress(ValueError):
            row = json.loads(line)
            if isinstance(row, dict):
                rows.append(row)
    return rows


def rewind_metrics(run_dir: Path, step: int) -> list[dict[str, Any]]:
    """Cuts metrics.jsonl back to the rows of meta-steps 1 .. `step` and returns them."""
    path = run_dir / "metrics.jsonl"
    by_step = {row.get("step"): row for row in read_rows(path)}
    rows = [by_step[kept] for kept in range(1, step + 1) if kept in by_step]
    write_atomic(path, b"".join(_json_bytes(row) for row in rows))
    return rows


def _step_folders(run_dir: Path) -> dict[int, Path]:
    """Checkpoint folders by step, newest first."""
    root = run_dir / "checkpoints"
    entries = root.iterdir() if root.is_dir() else ()
    found = {int(m[1]): e for e in entries if (m := _STEP.fullmatch(e.name)) and e.is_dir() and not e.is_symlink()}
    return {step: found[step] for step in sorted(found, reverse=True) if found[step].name == f"step_{step:08d}"}


def _manifest(claims: dict[str, tuple[int, str]]) -> bytes:
    files = {name: {"bytes": size, "sha256": sha256} for name, (size, sha256) in claims.items()}
    return _json_bytes({"format_version": FORMAT_VERSION, "files": files})


def _verify(folder: Path) -> None:
    """Raises a ValueError unless size and SHA-256 of the files are the manifest's, and it is written as we write it."""
    with _opened(folder / _MANIFEST, _MAX_JSON_BYTES) as file:
        manifest = file.read()
    damaged = ValueError(f"{_MANIFEST} is damaged")
    try:
        content = json.loads(manifest)
        version, files = content["format_version"], content["files"]
        claims = {name: (int(files[name]["bytes"]), str(files[name]["sha256"])) for name in (_ARRAYS, _META)}
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        raise damaged from None
    if isinstance(version, int) and version > FORMAT_VERSION:
        raise ValueError(f"format version {version} is newer than {FORMAT_VERSION}; use the version that wrote it")
    if manifest != _manifest(claims):
        raise damaged
    for name, (size, sha256) in claims.items():
        with _opened(folder / name, _MAX_JSON_BYTES if name == _META else None) as file:
            if (found := os.fstat(file.fileno()).st_size) != size:
                raise ValueError(f"{name} has {found} bytes, not the manifest's {size}")
            if hashlib.file_digest(file, "sha256").hexdigest() != sha256:
                raise ValueError(f"{name} does not match the manifest's SHA-256")


def _opened(path: Path, max_bytes: int | None) -> BufferedReader:
    """Opens a file of ours for reading: no link, no device or pipe that never ends, no more than `max_bytes`."""
    file = os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb")
    status = os.fstat(file.fileno())
    if not stat.S_ISREG(status.st_mode):
        file.close()
        raise ValueError(f"{path.name} is no regular file")
    if max_bytes is not None and status.st_size > max_bytes:
        file.close()
        raise ValueError(f"{path.name} has {status.st_size} bytes, more than the {max_bytes} it may have")
    return file


def _delete(folder: Path) -> None:
    # Renamed first: a half-deleted folder must not look like a checkpoint.
    doomed = folder.with_name(f"{_DELETED}{folder.name}-{time.time_ns()}")
    os.rename(folder, doomed)
    shutil.rmtree(doomed, ignore_errors=True)


def _json_bytes(value: Any) -> bytes:
    return (json.dumps(value, allow_nan=False) + "\n").encode()
