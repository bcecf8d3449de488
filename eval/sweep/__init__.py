"""Many comparisons in one run folder: suites of families, and axes along which one thing varies."""
