"""Evaluation: any optimizer against tuned baselines, under one protocol for all."""
