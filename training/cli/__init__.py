"""The commands of ``python -m training``, one module each; the function ``add`` adds a command's parser.

Modules that need Keras are imported inside functions, so ``--help`` and wrong options do not wait for it.
"""
