"""What the per-parameter MLP optimizers share: the transform, the MLP, the features."""
