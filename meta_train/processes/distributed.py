"""Several processes that run one program (`jax.distributed`, multi-controller JAX): how they meet, how they agree on a
value, and how arrays are placed on and fetched from devices that belong to other processes.

Process zero writes the run folder; an error of one process is an error of all, so that none is left waiting in a
collective. A process that dies cannot be survived: JAX ends its peers, and whoever started the group (a scheduler, or
`python -m meta_train launch`) starts it again. With one process everything here is the plain single-process thing.
"""

import hashlib
import io
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, TextIO, TypeVar

import jax
import numpy as np
from jaxtyping import PyTree

T = TypeVar("T")
SETTINGS = "auto, none, or COORDINATOR:PORT,NUM_PROCESSES,PROCESS_ID"
_HEARTBEAT_SECONDS, _MEETING_SECONDS = 30, 300
_LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
_TEXT_BYTES = 4096


class Group(NamedTuple):
    """Where the processes of a group meet, and which of them this is."""

    coordinator: str
    num_processes: int
    process_id: int


def parse_setting(setting: str) -> Group | str:
    """Reads the value of --distributed.

    Raises:
      ValueError: neither of its three forms.
    """
    if setting in ("auto", "none"):
        return setting
    coordinator, *numbers = setting.split(",")
    host, _, port = coordinator.rpartition(":")
    if not host or not port.isdecimal() or len(numbers) != 2 or not all(number.isdecimal() for number in numbers):
        raise ValueError(f"distributed={setting!r}: use {SETTINGS}, e.g. node1:2911,4,0")
    group = Group(coordinator, int(numbers[0]), int(numbers[1]))
    if not 0 < int(port) < 2**16:
        raise ValueError(f"distributed={setting!r}: use a port from 1 to 65535, e.g. {host}:2911,4,0")
    if group.process_id >= group.num_processes:
        raise ValueError(f"distributed={setting!r}: use a process id below the number of processes; they count from 0")
    return group


def join(setting: Group | str) -> None:
    """Joins the group; call it before the first use of a device.

    Raises:
      ValueError: "auto" and no cluster that JAX recognises.
      ConnectionError: the others were not met in time.
    """
    if setting == "none" or (isinstance(setting, Group) and setting.num_processes == 1):
        return
    # Signals are answered by `stop_signal`; JAX's own service would swallow SIGTERM until then.
    jax.config.update("jax_enable_preemption_service", False)
    timeouts: dict[str, Any] = {
        "initialization_timeout": _MEETING_SECONDS,
        "heartbeat_timeout_seconds": _HEARTBEAT_SECONDS,
    }
    try:
        if isinstance(setting, Group):
            host = setting.coordinator.rpartition(":")[0]
            jax.distributed.initialize(
                coordinator_address=setting.coordinator,
                num_processes=setting.num_processes,
                process_id=setting.process_id,
                cluster_detection_method="deactivate",
                coordinator_bind_address=setting.coordinator if host in _LOOPBACK else None,
                **timeouts,
            )
        else:
            jax.distributed.initialize(**timeouts)
    except ValueError as error:
        raise ValueError(
            f"distributed='auto': no SLURM, Kubernetes or MPI job was found ({error}); use none or "
            "COORDINATOR:PORT,NUM_PROCESSES,PROCESS_ID"
        ) from None
    except RuntimeError as error:
        raise ConnectionError(f"distributed: the other processes were not met ({error})") from None


def is_process_zero() -> bool:
    """Whether this process writes the run folder."""
    return jax.process_index() == 0


def any_process(flag: bool) -> bool:
    """Whether the flag is set in any process; all must ask."""
    if jax.process_count() == 1:
        return flag
    return bool(_gather(np.array(flag)).any())


def on_all_processes(action: Callable[[], T]) -> T:
    """Runs `action` in every process and returns each its own result.

    Raises:
      ValueError, OSError: in every process if one of them raised it.
    """
    if jax.process_count() == 1:
        return action()
    result, error = None, None
    try:
        result = action()
    except (ValueError, OSError) as caught:
        error = caught
    kind = "" if error is None else "V" if isinstance(error, ValueError) else "O"
    told = _gather_text(kind + ("" if error is None else str(error)))
    if error is not None:
        raise error
    for message in filter(None, told):
        raise (ValueError if message[0] == "V" else OSError)(message[1:])
    return result  # pyright: ignore[reportReturnType]


def on_process_zero(action: Callable[[], T]) -> T:
    """Runs `action` in process zero alone; returns its result, a short JSON value, in all; errors as in
    `on_all_processes`."""
    if jax.process_count() == 1:
        return action()
    told = on_all_processes(lambda: json.dumps(action()) if is_process_zero() else "")
    return json.loads(_gather_text(told)[0])


def check_equal(what: str, digest: str) -> None:
    """Raises a ValueError in every process unless all have the same `digest` of `what`."""
    if jax.process_count() == 1:
        return
    digests = _gather_text(digest)
    others = [process for process, other in enumerate(digests) if other != digests[0]]
    if others:
        raise ValueError(
            f"{what}: process {others[0]} has other bytes than process 0; all must see the same files and flags "
            "(one shared run folder, one version of the code)"
        )


def digest(arrays: dict[str, np.ndarray], *values: Any) -> str:
    """SHA-256 of named arrays (names, dtypes, shapes, bits) and JSON values."""
    sha = hashlib.sha256(json.dumps(values, sort_keys=True).encode())
    for name in sorted(arrays):
        array = arrays[name]
        sha.update(f"{name} {array.dtype} {array.shape}\n".encode())
        sha.update(np.ascontiguousarray(array).tobytes())
    return sha.hexdigest()


def place(tree: PyTree, sharding: jax.sharding.Sharding) -> PyTree:
    """`jax.device_put` that also reaches the devices of other processes; every process gives the whole value."""
    if sharding.is_fully_addressable:
        return jax.device_put(tree, sharding)
    return jax.tree.map(lambda leaf: _place_leaf(leaf, sharding), tree)


def to_host(leaf: jax.Array | np.ndarray) -> np.ndarray:
    """The whole of an array (no typed keys), whichever processes hold its parts; all must ask for it."""
    if isinstance(leaf, jax.Array) and not leaf.is_fully_addressable and not leaf.is_fully_replicated:
        return _gather(leaf, tiled=True)
    return np.asarray(leaf)


def log_to(path: Path) -> None:
    """Makes `path` receive what this process prints: all of it, down to a crash of the runtime, in all but
    process zero, and a copy in that one, whose terminal stays."""
    path.parent.mkdir(exist_ok=True)
    file = open(path, "a", encoding="utf-8", buffering=1)
    if os.path.samestat(os.fstat(file.fileno()), os.fstat(2)):
        # Whoever started this process has pointed it there already.
        file.close()
    elif is_process_zero():
        sys.stdout, sys.stderr = _Copied(sys.stdout, file), _Copied(sys.stderr, file)
    else:
        sys.stdout.flush()
        sys.stderr.flush()
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)


class _Copied(io.TextIOBase):
    """A text stream that is written to two."""

    def __init__(self, stream: TextIO, copy: TextIO) -> None:
        self._streams = (stream, copy)

    def write(self, text: str, /) -> int:
        for stream in self._streams:
            stream.write(text)
        return len(text)

    def flush(self) -> None:
        for stream in self._streams:
            stream.flush()

    def fileno(self) -> int:
        return self._streams[0].fileno()


def _place_leaf(leaf: Any, sharding: jax.sharding.Sharding) -> jax.Array:
    if jax.numpy.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        data = _place_leaf(jax.random.key_data(leaf), sharding)
        return jax.random.wrap_key_data(data, impl=jax.random.key_impl(leaf))
    array = np.asarray(leaf)
    return jax.make_array_from_callback(array.shape, sharding, lambda index: array[index])


def _gather(value: Any, tiled: bool = False) -> np.ndarray:
    # The one import of jax.experimental: there is no other way to it yet.
    from jax.experimental.multihost_utils import process_allgather

    return process_allgather(value, tiled=tiled)


def _gather_text(text: str) -> list[str]:
    data = text.encode()[:_TEXT_BYTES]
    buffer = np.zeros(_TEXT_BYTES, np.uint8)
    buffer[: len(data)] = np.frombuffer(data, np.uint8)
    return [row.tobytes().rstrip(b"\0").decode(errors="replace") for row in _gather(buffer)]
