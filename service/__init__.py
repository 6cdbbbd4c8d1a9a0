"""The HTTP service: serves a bundle, and returns probabilities and overlays for images.

It never imports TensorFlow or Keras, and imports ONNX Runtime only to load a bundle.

Its packages and modules, from the command line down. Each imports only those below it::

    cli             the commands of ``python -m service``
    server, app     the process (listeners, signals, draining) and the ASGI application
    bulk            scoring files without a server
    bridge          scoring the photographs of a DICOM archive, as a client of a running service
    api             routes, request bodies and response schemas
    lifecycle       loading, reloading, draining and closing
    http            connections, middleware and problem documents
    admission       authentication, rates and limits
    inference       batching, ONNX Runtime, decision rule, warnings, overlays
    decoding        image files to pixels
    observability   logs, metrics, traces, drift
    settings        environment variables, which ``environment`` reads
    system          threads, processors, memory
    errors          exceptions, and the HTTP status of each
    static          files of the web pages
"""

import os

# Must be set before ONNX Runtime is imported, which otherwise sends telemetry; see its Privacy.md.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
# Saves the tenth of a second in which pydantic searches all installed packages for plugins.
os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
