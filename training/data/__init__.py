"""The data set: reading, describing and splitting it."""
