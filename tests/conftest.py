"""Settings under which every test runs: 8 simulated CPU devices and JAX's strictest type rules."""

import os
from pathlib import Path

import jax
import pytest

ROOT = Path(__file__).parent


def pytest_configure(config: pytest.Config) -> None:
    jax.config.update("jax_num_cpu_devices", 8)
    jax.config.update("jax_numpy_dtype_promotion", "strict")
    jax.config.update("jax_numpy_rank_promotion", "raise")
    # Compiled programs are kept between runs (`pytest --cache-clear` drops them). Tracing still
    # happens every time, so tests that count traces see the truth. Subprocesses inherit the folder
    # through the environment.
    folder = os.environ.get("JAX_COMPILATION_CACHE_DIR") or str(config.cache.mkdir("jax"))
    os.environ["JAX_COMPILATION_CACHE_DIR"] = folder
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
    jax.config.update("jax_compilation_cache_dir", folder)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)


@pytest.fixture(autouse=True, scope="module")
def compiled_quickly(request: pytest.FixtureRequest):
    """Most tests run a program a few times only: without XLA's optimizations it compiles in a third of the time.

    Not those of learned_opt, which promises bits of compiled code, nor modules marked `optimized`, which compare with
    what another process compiled.
    """
    layer = request.path.relative_to(ROOT).parts[0]
    is_quick = layer != "learned_opt" and request.node.get_closest_marker("optimized") is None
    if is_quick != jax.config.values["jax_disable_most_optimizations"]:
        jax.config.update("jax_disable_most_optimizations", is_quick)
        # Programs in memory do not know how they were compiled.
        jax.clear_caches()
