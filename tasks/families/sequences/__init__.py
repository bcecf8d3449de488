"""Sequences: language models, in-context regression, modular arithmetic."""
