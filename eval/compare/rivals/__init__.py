"""Algorithms and optimizers of the library as tuned baselines, by kind; eval/compare/baselines.py has them all."""
