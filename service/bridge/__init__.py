"""The DICOM bridge: scores the photographs of an archive, and stores the results beside them.

A program of its own, which asks the service over HTTP. It needs the extra ``dicom-bridge``; ``settings``
and ``codes`` can be imported without it.
"""
