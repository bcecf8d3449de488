"""Where a result comes from: versions, device, code and command line."""

import platform
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import jax

PACKAGES = ("jax", "jaxlib", "optax", "flax", "numpy")


def provenance() -> dict[str, Any]:
    """JSON values: package versions, device kind and number, git commit (None outside a checkout),
    argv."""
    commit, dirty = git_state()
    return {
        "python": platform.python_version(),
        "versions": {name: metadata.version(name) for name in PACKAGES},
        "platform": jax.default_backend(),
        "device": jax.devices()[0].device_kind,
        "num_devices": jax.device_count(),
        "git_commit": commit,
        "git_dirty": dirty,
        "argv": list(sys.argv),
    }


def git_state() -> tuple[str | None, bool | None]:
    """Commit of this checkout and whether tracked files differ from it; (None, None) where there is
    no git."""
    folder = Path(__file__).resolve().parent
    try:
        commit = _git(folder, "rev-parse", "HEAD")
        return commit, bool(_git(folder, "status", "--porcelain", "--untracked-files=no"))
    except (OSError, subprocess.SubprocessError):
        return None, None


def _git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), *arguments]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=10)
    return done.stdout.strip()
