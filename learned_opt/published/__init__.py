"""Weights that others published, as optimizers of this library: files are read as data, no code of theirs is run."""
