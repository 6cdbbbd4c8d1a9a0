"""The contract between training and serving: labels, preprocessing and the bundle format.

``training`` writes bundles and ``service`` reads them; neither imports the other.
This package depends only on pydantic, Pillow and NumPy (and optionally on pydicom).
"""
