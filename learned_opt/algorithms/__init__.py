"""Distributed training, one algorithm per file, and what drives them."""
