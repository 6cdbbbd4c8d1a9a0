"""Decodes image files, in processes that can be killed."""
