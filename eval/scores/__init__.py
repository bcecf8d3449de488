"""Numbers read off curves, and their statistics."""
