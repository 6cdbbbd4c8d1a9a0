"""Random search for a network that is trained from scratch."""
