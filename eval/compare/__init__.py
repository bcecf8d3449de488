"""One comparison: contenders, their tuning, training and curves."""
