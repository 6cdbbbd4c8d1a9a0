"""The contract between training and serving: labels, preprocessing and the bundle format.

``training`` writes bundles, ``service`` reads them, and neither imports the other.
This package therefore needs nothing heavier than pydantic, Pillow and NumPy.
"""
