"""Evaluation: any optimizer against tuned baselines, by the same door."""
