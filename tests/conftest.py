"""Settings under which every test runs: 8 simulated CPU devices, JAX's strictest type rules, checked annotations.

Annotations are checked by jaxtyping and beartype whenever a function of one of the four folders is called. An integer
passes for a float, as type checkers have it.
"""

import gc
import importlib
import importlib.util
import os
import pkgutil
import sys
import typing
from pathlib import Path

import jax
import jaxtyping
import pytest
from jax._src import compiler

ROOT = Path(__file__).parent
TYPE_CHECKER = "beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))"


def check_annotations() -> None:
    """From now on calls of functions in the four folders are checked.

    The library names jaxtyping below `if TYPE_CHECKING:`, because it must not depend on it, so it is imported here, as
    a type checker would. It is imported twice: the first time loads the other packages that it needs, since not all of
    them could be imported like that.
    """
    package = "learned_opt"
    names = [module.name for module in pkgutil.walk_packages([str(ROOT.parent / package)], f"{package}.")]
    for name in [*names, "beartype"]:
        importlib.import_module(name)
    for name in [name for name in sys.modules if f"{name}.".startswith(f"{package}.")]:
        del sys.modules[name]
    jaxtyping.install_import_hook([package, "tasks", "eval", "meta_train"], TYPE_CHECKER)
    typing.TYPE_CHECKING = True
    try:
        for name in names:
            importlib.import_module(name)
    finally:
        typing.TYPE_CHECKING = False


# Before any test module is imported, and not where only what must be there is installed.
if importlib.util.find_spec("beartype"):
    check_annotations()


def compile_quickly() -> None:
    """From now on XLA's optimizations can be left out, by the setting `jax_disable_most_optimizations`.

    JAX's own reading of it leaves the longest part in: the fusion emitters of the CPU compiler lower every kernel
    through MLIR. The older ones do the same arithmetic in a third of the time. There is no public door to the options
    of all programs alike, and XLA's environment variable is read once per process, so that it would hold for the tests
    that compile as users do, too.
    """
    of_users = compiler.get_compile_options

    def get_compile_options(*args, **kwargs):
        options = of_users(*args, **kwargs)
        if jax.config.values["jax_disable_most_optimizations"]:
            # Splitting a program for several threads pays for large ones only.
            quick = [("xla_cpu_use_fusion_emitters", False), ("xla_cpu_parallel_codegen_split_count", 1)]
            options.env_option_overrides = [*options.env_option_overrides, *quick]
        return options

    compiler.get_compile_options = get_compile_options


def pytest_configure(config: pytest.Config) -> None:
    jax.config.update("jax_num_cpu_devices", 8)
    jax.config.update("jax_numpy_dtype_promotion", "strict")
    jax.config.update("jax_numpy_rank_promotion", "raise")
    compile_quickly()
    # Compiled programs are kept between runs (`pytest --cache-clear` drops them). Tracing still
    # happens every time, so tests that count traces see the truth. Subprocesses inherit the folder
    # through the environment.
    folder = os.environ.get("JAX_COMPILATION_CACHE_DIR") or str(config.cache.mkdir("jax"))
    os.environ["JAX_COMPILATION_CACHE_DIR"] = folder
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
    jax.config.update("jax_compilation_cache_dir", folder)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)


def pytest_collection_finish() -> None:
    """The modules and tests stay until the end, so that the garbage collector need not look through them each time."""
    gc.collect()
    gc.freeze()


@pytest.fixture
def unchecked_annotations():
    """For a test that passes a wrong type on purpose, to see what our own code says of it."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Most tests run a program a few times only: without XLA's optimizations it compiles in a third of the time.

    Such a program has other last bits, needs other memory and takes other time than what users run. It cannot show

    - that two layouts, two runs or a run and its continuation have the same bits, which fusion may change;
    - that two ways to write a sum are equal to the last bit;
    - memory or speed.

    Tests that promise these are marked `optimized`, as are those that compare with what another process compiled. This
    comes before all fixtures, those of a module included.
    """
    is_quick = item.get_closest_marker("optimized") is None
    if is_quick != jax.config.values["jax_disable_most_optimizations"]:
        jax.config.update("jax_disable_most_optimizations", is_quick)
        # For the processes that the test starts.
        os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = str(int(is_quick))
        # Programs in memory do not know how they were compiled.
        jax.clear_caches()
