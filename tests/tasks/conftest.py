"""Tests of tasks compile some 400 programs and run most of them once."""

import pytest


@pytest.fixture(autouse=True)
def compiled_quickly(without_optimizations):
    pass
