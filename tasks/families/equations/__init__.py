"""Differential equations: physics-informed networks and a linear system."""
