"""The HTTP service: reads a bundle, answers images with probabilities and overlays.

Importing it loads neither TensorFlow nor Keras, and loads ONNX Runtime only with a bundle.

Its rooms, from the command line down; each imports only rooms below it::

    cli             the commands of ``python -m service``
    server, app     the process: listeners, signals, draining; the ASGI application
    bulk            files without a server
    api             what a client may ask
    lifecycle       loading, reloading, draining and closing the model
    http            what holds for every request
    admission       who may send how much
    inference       pixels to what the model says of them
    decoding        image files to pixels
    observability   logs, metrics, traces, drift
    settings        what can be set
    system          threads, processors, memory
    errors          the exceptions, and the status of each
    static          the files of the pages
"""

import os

# ONNX Runtime reports its use to its maker unless told not to before it is loaded; see its Privacy.md.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
# pydantic asks every installed package whether it is a plugin of it: a tenth of a second, and none is wanted.
os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
