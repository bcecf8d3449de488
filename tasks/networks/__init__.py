"""Parts that families are built of: layers, losses and heads."""
