"""One run on disk: its folder, checkpoints, metrics, and the loop that fills them."""
