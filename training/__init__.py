"""Offline training: HAM10000 images to a verified bundle. Run ``python -m training --help``."""
