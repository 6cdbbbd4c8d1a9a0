"""A trained run as a bundle that the service loads."""
