"""Networks for ordinary losses: inputs, network, target and loss drawn at random."""
