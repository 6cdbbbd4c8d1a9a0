"""The commands of ``python -m service``, one module each. Its function ``add`` adds the parser.

A command takes its parsed options and returns the exit status. Slow modules are imported inside the
functions, so that ``--help`` and wrong options do not wait for them.
"""
