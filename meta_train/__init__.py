"""Meta-training: learns the parameters of a learned optimizer."""
