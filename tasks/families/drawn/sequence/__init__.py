"""Problems on sequences and tables drawn at random."""
