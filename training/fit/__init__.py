"""Training of one member."""
