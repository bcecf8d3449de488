"""The task families by name, in sets: what optimizers are meta-trained on, what meta-training is tuned on, and what
optimizers are judged on. Literal tables: to add a family is to add an entry.
"""

import difflib
from collections.abc import Sequence

from tasks.base import TaskFamily
from tasks.suites.entry import SuiteEntry
from tasks.suites.meta_test import META_TEST
from tasks.suites.meta_test_more import META_TEST_MORE
from tasks.suites.meta_test_ordinary import META_TEST_ORDINARY
from tasks.suites.meta_train import META_TRAIN
from tasks.suites.meta_valid import META_VALID

SUITES: dict[str, dict[str, SuiteEntry]] = {
    "meta_train": META_TRAIN,
    "meta_valid": META_VALID,
    "meta_test": META_TEST,
    "meta_test_ordinary": META_TEST_ORDINARY,
    "meta_test_more": META_TEST_MORE,
}

FAMILIES: dict[str, SuiteEntry] = META_TRAIN | META_VALID | META_TEST | META_TEST_ORDINARY | META_TEST_MORE
"""Every family."""


def names_of(names: Sequence[str]) -> tuple[str, ...]:
    """Names of families, with the names of suites replaced by those of their families.

    Raises:
      ValueError: unknown name, with the nearest ones.
    """
    found: dict[str, None] = {}
    for name in names:
        if name not in FAMILIES and name not in SUITES:
            near = difflib.get_close_matches(name, (*SUITES, *FAMILIES))
            advice = f"did you mean {' or '.join(near)}?" if near else f"use a suite ({', '.join(SUITES)}) or a family"
            raise ValueError(f"unknown task family {name!r}: {advice} ('python -m tasks' lists all)")
        found |= dict.fromkeys(SUITES.get(name, (name,)))
    return tuple(found)


def make_family(name: str) -> TaskFamily:
    """Builds a family, which loads its data.

    Raises:
      ValueError: unknown name, with the nearest ones.
      FileNotFoundError: its dataset is not embedded and was not found; the message says how to get it.
    """
    if name in SUITES:
        raise ValueError(f"{name!r} is a suite of {len(SUITES[name])} families: name one of them")
    names_of([name])
    return FAMILIES[name].make()
