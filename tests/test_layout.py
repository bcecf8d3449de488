"""The promises about the shape of the repository: who may import whom, and what no file may
contain."""

import ast
import importlib
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
MAY_IMPORT = {
    "learned_opt": {"learned_opt"},
    "tasks": {"tasks"},
    "eval": {"eval", "tasks", "learned_opt"},
    "meta_train": {"meta_train", "eval", "tasks", "learned_opt"},
}
LIBRARY_DEPENDENCIES = {"jax", "optax", "numpy", "safetensors", "ml_dtypes"}
OPTIONAL_DEPENDENCIES = {
    "learned_opt/algorithms/flax_train_state.py": {"flax"},
    "learned_opt/checkpoint/model_folder.py": {"huggingface_hub"},
}
MAX_LINES = 400
MEDIAN_LINES = 150
MAX_FILES = 25
TESTS = set((ROOT / "tests").rglob("*.py"))

PYTHON_FILES = sorted(TESTS.union(*((ROOT / layer).rglob("*.py") for layer in MAY_IMPORT)))
ROOMS = {
    ".".join(path.parent.relative_to(ROOT).parts)
    for path in PYTHON_FILES
    if path not in TESTS and len(path.relative_to(ROOT).parts) > 2 and path.parent.name not in ("notebooks", "data")
}
"""Folders below the four, by dotted name."""


def in_root(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def top_level_imports(tree: ast.AST) -> set[str]:
    """Top-level names of the modules that a file imports anywhere, functions included."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: relative import"
            names.add((node.module or "").split(".")[0])
    return names


def without_type_checking(tree: ast.Module) -> ast.Module:
    """The module less what stands below `if TYPE_CHECKING:`."""

    class Pruned(ast.NodeTransformer):
        def visit_If(self, node: ast.If) -> ast.AST | list[ast.stmt]:
            self.generic_visit(node)
            return node.orelse if ast.unparse(node.test).endswith("TYPE_CHECKING") else node

    return Pruned().visit(tree)


def forbidden_imports(source: str, layer: str) -> set[str]:
    """Folders that a file of this one may not import; to import the tests of a folder is to import it."""
    modules = {name.removeprefix("tests.") for name in imported_modules(ast.parse(source))}
    return {name.split(".")[0] for name in modules} & (set(MAY_IMPORT) - MAY_IMPORT[layer])


def imported_modules(tree: ast.AST) -> set[str]:
    """Dotted names of the modules of ours that a file imports anywhere."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
    return {name for name in names if name.removeprefix("tests.").split(".")[0] in MAY_IMPORT}


def room_of(module: str, rooms: set[str]) -> str | None:
    """The room that a module lies in; None for files of the four folders themselves, their faces and grounds."""
    parts = module.split(".")
    candidates = (".".join(parts[:end]) for end in range(len(parts), 1, -1))
    return next((room for room in candidates if room in rooms), None)


def are_nested(room: str, other: str) -> bool:
    """Whether one lies in the other: a parent is the face and the ground of its rooms."""
    return f"{room}.".startswith(f"{other}.") or f"{other}.".startswith(f"{room}.")


def room_imports(sources: dict[str, str], rooms: set[str]) -> dict[str, set[str]]:
    """Room -> other rooms that its files import; `sources` are texts by dotted module name."""
    found: dict[str, set[str]] = {room: set() for room in rooms}
    for module, text in sources.items():
        room = room_of(module, rooms)
        others = {room_of(name, rooms) for name in imported_modules(ast.parse(text))}
        if room is not None:
            found[room] |= {other for other in others if other is not None and not are_nested(room, other)}
    return found


def circle(imports: dict[str, set[str]]) -> list[str]:
    """Rooms that import each other in a ring; empty if there are none."""
    left = dict(imports)
    while left:
        imported = set().union(*left.values())
        free = [room for room, others in left.items() if not others & left.keys() or room not in imported]
        if not free:
            return sorted(left)
        for room in free:
            del left[room]
    return []


def pickle_uses(source: str) -> list[str]:
    """Every way of loading a file that may run code: the modules, and NumPy's switch."""
    tree = ast.parse(source)
    found = sorted(top_level_imports(tree) & {"pickle", "cPickle", "cloudpickle", "dill", "joblib"})
    for node in ast.walk(tree):
        if isinstance(node, ast.keyword) and node.arg == "allow_pickle":
            if not (isinstance(node.value, ast.Constant) and node.value.value is False):
                found.append(f"line {node.value.lineno}: allow_pickle")
    return found


@pytest.mark.parametrize("path", [p for p in PYTHON_FILES if p.parent != ROOT / "tests"], ids=in_root)
def test_imports_go_one_way(path):
    parts = path.relative_to(ROOT).parts
    # The tests of a folder stand on the same floor as the folder.
    layer = parts[1] if parts[0] == "tests" else parts[0]
    assert forbidden_imports(path.read_text(), layer) == set()


@pytest.mark.parametrize("path", [p for p in PYTHON_FILES if in_root(p).startswith("learned_opt/")], ids=in_root)
def test_the_library_imports_only_its_dependencies(path):
    tree = without_type_checking(ast.parse(path.read_text()))
    allowed = LIBRARY_DEPENDENCIES | {"learned_opt"} | set(sys.stdlib_module_names)
    allowed |= OPTIONAL_DEPENDENCIES.get(in_root(path), set())
    assert top_level_imports(tree) - allowed == set()


@pytest.mark.parametrize("path", [p for p in PYTHON_FILES if p not in TESTS], ids=in_root)
def test_no_file_is_loaded_that_may_run_code(path):
    assert pickle_uses(path.read_text()) == []


@pytest.mark.parametrize("path", PYTHON_FILES, ids=in_root)
def test_file_is_short(path):
    assert len(path.read_text().splitlines()) <= MAX_LINES


@pytest.mark.parametrize("layer", MAY_IMPORT)
def test_files_are_short_as_a_rule(layer):
    lengths = sorted(len(p.read_text().splitlines()) for p in PYTHON_FILES if in_root(p).startswith(f"{layer}/"))
    assert lengths[len(lengths) // 2] < MEDIAN_LINES


def test_no_folder_is_crowded():
    folders = [path.parent for path in PYTHON_FILES]
    crowded = {in_root(folder): folders.count(folder) for folder in folders if folders.count(folder) > MAX_FILES}
    assert crowded == {}


@pytest.mark.parametrize("room", sorted(ROOMS))
def test_every_room_says_what_lives_there(room):
    init = ROOT.joinpath(*room.split("."), "__init__.py")
    docstring = ast.get_docstring(ast.parse(init.read_text())) if init.exists() else None
    assert docstring and len(docstring) > 20, f"{in_root(init)}: say in its docstring what lives there"


def test_rooms_do_not_import_each_other_in_a_circle():
    sources = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts): path.read_text()
        for path in PYTHON_FILES
        if path not in TESTS
    }
    assert circle(room_imports(sources, ROOMS)) == []


def test_no_grab_bag_files_and_no_package_below_tests():
    names = {path.stem for path in PYTHON_FILES} | {path.parent.name for path in PYTHON_FILES}
    assert names & {"utils", "util", "common", "misc", "helpers"} == set()
    assert list((ROOT / "tests").rglob("__init__.py")) == []


@pytest.mark.parametrize("layer", MAY_IMPORT)
def test_layer_resolves_inside_the_repository(layer):
    # An installed package of the same name would win over a folder without `__init__.py`.
    assert importlib.import_module(layer).__file__ == str(ROOT / layer / "__init__.py")


def test_the_checks_above_see_violations():
    assert forbidden_imports("def f():\n  from eval.protocol import x", "tasks") == {"eval"}
    assert forbidden_imports("import meta_train.estimators.es as es", "eval") == {"meta_train"}
    assert forbidden_imports("from tests.eval.toy import TOY", "learned_opt") == {"eval"}
    assert forbidden_imports("from tests.tasks.adam_settings import ADAM", "tasks") == set()
    assert pickle_uses("import numpy as np\nnp.load(p, allow_pickle=True)") != []
    assert pickle_uses("from pickle import load") == ["pickle"]
    rooms = {"eval.a", "eval.b", "eval.b.c"}
    sources = {"eval.a.x": "from eval.b.y import z", "eval.b.y": "import eval.base", "eval.b.c.w": "import eval.a.x"}
    imports = room_imports(sources, rooms)
    assert imports == {"eval.a": {"eval.b"}, "eval.b": set(), "eval.b.c": {"eval.a"}} and circle(imports) == []
    assert circle(room_imports({**sources, "eval.b.v": "from eval.a import x"}, rooms)) == ["eval.a", "eval.b"]
    nested = {"eval.b.v": "import eval.b.c.w", "eval.b.c.w": "import eval.b.v"}
    assert circle(room_imports(nested, rooms)) == []
    pruned = without_type_checking(ast.parse("if TYPE_CHECKING:\n  import flax\nimport jax"))
    assert top_level_imports(pruned) == {"jax"}
