"""The commands of ``python -m training``, one file each; ``add`` in each makes its parser.

What needs Keras is imported inside the functions: neither ``--help`` nor a wrong option waits for it.
"""
