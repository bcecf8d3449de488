"""Communication by fragments: a round averages a part of the parameters, so that its peak is a fraction of the model.

The workers' models go on from round to round, and only their fragments are drawn to the global ones.
"""
