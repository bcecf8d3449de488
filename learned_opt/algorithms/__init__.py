"""Distributed training, one algorithm per file, and what drives them; `learned_opt.algorithm_table` lists them all."""
