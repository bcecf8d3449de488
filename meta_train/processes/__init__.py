"""Several processes as one run: launching, agreeing, watching, stopping."""
