"""Inner problems to train on: one family per file, listed in `tasks.suites`."""
