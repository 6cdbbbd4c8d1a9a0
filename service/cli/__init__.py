"""The commands of ``python -m service``, one file each; ``add`` in each makes its parser.

A command takes its parsed options and returns the exit status. What is slow to import is imported
inside the functions: neither ``--help`` nor a wrong option waits for it.
"""
