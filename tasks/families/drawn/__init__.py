"""Problems of which everything is drawn, each seed another: one folder per family, and what they share in `family`."""
