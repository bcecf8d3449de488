"""Where and with what a run was started: one row per start in provenance.jsonl."""

import json
import socket
import time
from pathlib import Path
from typing import Any

import jax

from eval.machine.provenance import provenance
from learned_opt.atomic_file import write_atomic
from meta_train.config import MetaTrainConfig
from meta_train.references import file_hashes
from meta_train.runs.run_store import read_rows


def record_start(run_dir: Path, resumed_step: int, config: MetaTrainConfig) -> list[str]:
    """Appends a row: time, host, versions, device, git commit, argv, the SHA-256 of the user's files that the
    configuration names, and the meta-step it starts from.

    Returns:
      what differs from the start before and may change bits (they are promised per JAX version and device kind), or
        what is trained.
    """
    path = run_dir / "provenance.jsonl"
    row = {
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "host": socket.gethostname(),
        "resumed_step": resumed_step,
        **provenance(),
        "num_processes": jax.process_count(),
        "meta_steps": config.meta_steps,
        "files": file_hashes(config),
    }
    earlier = read_rows(path)
    data = path.read_bytes() if path.exists() else b""
    separator = b"" if not data or data.endswith(b"\n") else b"\n"
    write_atomic(path, data + separator + (json.dumps(row) + "\n").encode())
    if not earlier:
        return []
    before, now = _decides_bits(earlier[-1]), _decides_bits(row)
    warnings = [
        f"{name} was {before[name]}, is {now[name]}: bits may differ from here on"
        for name in now
        if before[name] != now[name]
    ]
    files = earlier[-1].get("files", {})
    changed = [path for path, sha256 in row["files"].items() if files.get(path, sha256) != sha256]
    return warnings + [f"{path} has changed since the start before: what is trained may be another" for path in changed]


def _decides_bits(row: dict[str, Any]) -> dict[str, Any]:
    versions = row.get("versions", {})
    return {
        "jax": versions.get("jax"),
        "jaxlib": versions.get("jaxlib"),
        "device": row.get("device"),
    }
