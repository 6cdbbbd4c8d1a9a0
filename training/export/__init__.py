"""Exports a trained run as a bundle, and evaluates bundles."""
