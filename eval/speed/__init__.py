"""Benchmarks behind the README's speed figures."""
