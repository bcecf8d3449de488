"""Settings that baselines were tuned to, of many comparisons in one small file, for `--baselines-from`.

A results file holds curves too, and is tied to a machine by their bits. Settings are a few numbers a baseline: whoever
judges an optimizer of his own takes them over and trains each baseline at its setting, a fifth of the work and less.

    python -m eval settings RUN ... --out FILE
    python -m eval suite ... --baselines-from FILE           # or shipped
"""

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from eval.protocol import EvalProtocol
from eval.results import Results
from eval.versioned_json import JsonFormat

FORMAT = JsonFormat("file of settings", 1, "python -m eval settings", indent=1, holds=("tuned",))
SHIPPED_NAME = "shipped"
SHIPPED = Path(__file__).with_name("tuned_settings.json")
"""Of forty cells of the suites meta_test and meta_test_more, with the commands of the runs."""
TUNING_FIELDS = ("task", "num_rounds", "num_workers", "num_local_steps", "batch_size", "tuning", "schedule", "ema")
"""Protocol fields that two comparisons must share for one to use the other's tuned settings."""


def save_settings(path: str | os.PathLike[str], comparisons: Iterable[Results]) -> int:
    """Adds the tuned settings of comparisons to a file, each in place of the same baseline's under the same protocol.

    Returns:
      How many comparisons the file then holds settings of.

    Raises:
      ValueError: no tuned baseline in any of them, or the file holds something else.
    """
    entries = {_key(entry["protocol"]): entry for entry in load_settings(path)} if Path(path).exists() else {}
    found = 0
    for results in comparisons:
        tuned = {
            c.name: {"hparams": c.hparams, "details": c.details, "tuning": {**c.tuning, "trials": []}}
            for c in results.contenders
            if c.kind == "baseline" and c.tuning["num_runs"]
        }
        if not tuned:
            continue
        found += 1
        protocol = {field: getattr(results.protocol, field) for field in TUNING_FIELDS}
        before = entries.get(_key(protocol), {"baselines": {}})
        run = " ".join(["python -m eval", *results.provenance.get("argv", ())[1:]])
        entries[_key(protocol)] = {
            "protocol": protocol,
            "runs": sorted({*before.get("runs", ()), run}),
            "baselines": {**before["baselines"], **tuned},
        }
    if not found:
        raise ValueError("no baseline was tuned in these runs: name run folders of compare, suite or axis")
    FORMAT.write(path, {"tuned": [entries[key] for key in sorted(entries)]})
    return len(entries)


def load_settings(path: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """What a file of `save_settings` holds, one entry a comparison: protocol (`TUNING_FIELDS`), runs, baselines.

    Args:
      path: the file, or "shipped".

    Raises:
      FileNotFoundError: no such file.
      ValueError: it holds something else.
    """
    return FORMAT.read(SHIPPED if os.fspath(path) == SHIPPED_NAME else path)["tuned"]


def holds_settings(path: str | os.PathLike[str]) -> bool:
    """Whether a path is "shipped" or a file of settings; False for a results file, and for one that cannot be read."""
    if os.fspath(path) == SHIPPED_NAME:
        return True
    try:
        return "tuned" in FORMAT.read(path)
    except (OSError, ValueError):
        return False


def settings_for(path: str | os.PathLike[str], protocol: EvalProtocol) -> dict[str, dict[str, Any]]:
    """hparams, details and tuning of the baselines that were tuned for a protocol, by name; empty where none was.

    Raises:
      FileNotFoundError, ValueError: as `load_settings`.
    """
    wanted = _key({field: getattr(protocol, field) for field in TUNING_FIELDS})
    found = (entry["baselines"] for entry in load_settings(path) if _key(entry["protocol"]) == wanted)
    return next(found, {})


def _key(protocol: dict[str, Any]) -> str:
    return json.dumps([protocol[field] for field in TUNING_FIELDS])
