"""What a run has finished already: results in a folder, where they are of the same comparison."""

import json
from collections.abc import Sequence
from pathlib import Path

from eval.compare.contenders import Contender
from eval.protocol import EvalProtocol
from eval.results import ContenderResult, Results, load_results


def finished(folder: Path, protocol: EvalProtocol, contenders: Sequence[Contender]) -> Results | None:
    """The results in a folder; None where there are none, or they are of another protocol or other contenders."""
    path = folder / "results.json"
    if not path.exists():
        return None
    found = load_results(path)
    same = found.protocol == protocol and _who(found.contenders) == _who(contenders)
    return found if same else None


def _who(contenders: Sequence[Contender | ContenderResult]) -> list[str]:
    return [json.dumps([c.name, c.kind, dict(c.details)]) for c in contenders]
