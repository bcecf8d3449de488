"""Training without a server: every worker keeps a model of its own and averages it with its neighbours'.

Models are in `RoundState.worker`; what `params` evaluates is their mean.
"""
