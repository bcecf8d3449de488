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
    "learned_opt/model_folder.py": {"huggingface_hub"},
}
MAX_LINES = 400
TESTS = set((ROOT / "tests").rglob("*.py"))
PYTHON_FILES = sorted(TESTS.union(*((ROOT / layer).rglob("*.py") for layer in MAY_IMPORT)))


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
    return top_level_imports(ast.parse(source)) & (set(MAY_IMPORT) - MAY_IMPORT[layer])


def pickle_uses(source: str) -> list[str]:
    """Every way of loading a file that may run code: the modules, and NumPy's switch."""
    tree = ast.parse(source)
    found = sorted(top_level_imports(tree) & {"pickle", "cPickle", "cloudpickle", "dill", "joblib"})
    for node in ast.walk(tree):
        if isinstance(node, ast.keyword) and node.arg == "allow_pickle":
            if not (isinstance(node.value, ast.Constant) and node.value.value is False):
                found.append(f"line {node.value.lineno}: allow_pickle")
    return found


@pytest.mark.parametrize("path", [p for p in PYTHON_FILES if p not in TESTS], ids=in_root)
def test_imports_go_one_way(path):
    layer = path.relative_to(ROOT).parts[0]
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
    assert pickle_uses("import numpy as np\nnp.load(p, allow_pickle=True)") != []
    assert pickle_uses("from pickle import load") == ["pickle"]
    pruned = without_type_checking(ast.parse("if TYPE_CHECKING:\n  import flax\nimport jax"))
    assert top_level_imports(pruned) == {"jax"}
