"""Few examples, fitted without end, all of it drawn at random."""
