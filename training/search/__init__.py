"""Random search for a network from scratch."""
