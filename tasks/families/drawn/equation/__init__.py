"""Differential equations drawn at random, with a known solution."""
