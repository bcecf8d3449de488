"""API reference: `python .ci/api_reference.py FOLDER` writes HTML pages from the docstrings of the four folders.

Fails on every warning of pdoc's, and on a public name without its place on a page or without a docstring. Names that
stand below `if TYPE_CHECKING:` in the library are imported here, as a type checker would, so that annotations resolve.
"""

import importlib
import pkgutil
import sys
import typing
import warnings
from pathlib import Path
from types import ModuleType

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import pdoc  # noqa: E402
import pdoc.render  # noqa: E402

FOLDERS = ("learned_opt", "tasks", "eval", "meta_train")
ENTRY_POINTS = {
    "tasks.base": ("Task", "TaskFamily"),
    "tasks.batches": ("sample_rows", "split_of", "whole_rows"),
    "tasks.check": ("check_family",),
    "tasks.datasets.load": ("load_dataset",),
    "tasks.datasets.text": ("load_text",),
    "tasks.suites": ("make_family", "names_of"),
    "eval.protocol": ("EvalProtocol", "make_protocol"),
    "eval.compare.compare": ("compare",),
    "eval.compare.contenders": ("Contender",),
    "eval.report.report": ("write_report",),
    "eval.sweep.suite": ("suite_plan", "suite_family"),
    "eval.sweep.axes": ("axis_plan", "axis_family"),
    "eval.sweep.sweep": ("run_sweep", "load_sweep"),
    "eval.task_families": ("make_family",),
    "meta_train.config": ("MetaTrainConfig",),
    "meta_train.component": ("Component",),
    "meta_train.runs.run": ("run", "resume", "RunOutcome"),
    "meta_train.trainer": ("build_trainer",),
}
"""Where a user of the other three begins; of learned_opt every public name counts."""


def main(folder: Path) -> None:
    """Writes the pages and checks them."""
    library = import_library()
    public = [name for name in vars(library) if not name.startswith("_") and not is_module(vars(library)[name])]
    rooms = [module.name for module in pkgutil.iter_modules(library.__path__) if not module.name.startswith("_")]
    # The names are imported from where they are written, which pdoc takes for no part of the package otherwise.
    library.__all__ = [*public, *rooms]  # pyright: ignore[reportAttributeAccessIssue]
    for name in modules_below("tasks", "eval", "meta_train"):
        importlib.import_module(name)
    resolve_named_tuples()
    pdoc.render.configure(docformat="google", show_source=False, footer_text="learned-opt")
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        # A name in the type of optax's states, which flax's classes show in ours that inherit from them.
        warnings.filterwarnings("ignore", ".*Import of ArrayTree failed", UserWarning)
        pdoc.pdoc(*FOLDERS, output_directory=folder)
    for module, names in {"learned_opt": public, **ENTRY_POINTS}.items():
        page = (folder / f"{module.replace('.', '/')}.html").read_text()
        for name in names:
            if f'id="{name}"' not in page:
                raise SystemExit(f"{module}.{name}: not on its page")
            if callable(found := getattr(importlib.import_module(module), name)) and not found.__doc__:
                raise SystemExit(f"{module}.{name}: no docstring")


def import_library() -> ModuleType:
    """The library with the names of its annotations. It is imported twice: the first time loads the other packages that
    it needs, since not all of them could be imported like that."""
    names = ["learned_opt", *modules_below("learned_opt")]
    for name in [*names, "jaxtyping"]:
        importlib.import_module(name)
    for name in [name for name in sys.modules if name.partition(".")[0] == "learned_opt"]:
        del sys.modules[name]
    typing.TYPE_CHECKING = True
    try:
        for name in names:
            importlib.import_module(name)
    finally:
        typing.TYPE_CHECKING = False
    return sys.modules["learned_opt"]


def modules_below(*packages: str) -> list[str]:
    """Dotted names of all modules of the packages, commands aside."""
    roots = [Path(importlib.import_module(package).__file__ or "").parent for package in packages]
    found = [
        module.name
        for package, root in zip(packages, roots, strict=True)
        for module in pkgutil.walk_packages([str(root)], f"{package}.")
    ]
    return [name for name in found if not name.endswith("__main__")]


def resolve_named_tuples() -> None:
    """A NamedTuple's constructor lives in a module of its own, where the names of its annotations are unknown.

    What Python says of it and of the fields is no documentation.
    """
    for module in [module for name, module in sys.modules.items() if name.partition(".")[0] in FOLDERS]:
        for kind in vars(module).values():
            if isinstance(kind, type) and issubclass(kind, tuple) and hasattr(kind, "_fields"):
                kind.__new__.__annotations__ = typing.get_type_hints(kind, include_extras=True)
                # "Alias for field number 0": the docstring of the class says what the fields are.
                for found in [kind.__new__, *(vars(kind)[field] for field in kind._fields)]:
                    found.__doc__ = ""


def is_module(value: object) -> bool:
    """Whether a name of a package is one of its modules."""
    return isinstance(value, ModuleType)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
