"""Benchmarks of the service: ``python -m bench``, or ``make bench``.

``rounds`` says what is measured and in which order, ``limit`` what the machine can do without a server,
``load`` what the clients do, ``peers`` which servers are compared, ``report`` what is written.

Separate programs: ``train`` (``make bench-train``) and ``gpu`` (``make bench-gpu``).
"""
