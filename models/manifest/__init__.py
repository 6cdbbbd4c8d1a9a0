"""The manifest of a bundle: its schema, and what follows from its figures."""
