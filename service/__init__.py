"""The HTTP service: reads a bundle, answers images with probabilities and overlays.

Importing it loads neither TensorFlow nor Keras, and ONNX Runtime only once a bundle is loaded.

Where to look, along the way of a request::

    server listener           the process: listeners, signals, draining; the port for operations
    protocol                  connections: timeouts, a cap, refusals; by way of:
      request_head            what a request's head must be
      request_cycle           a request on its way to the application
      turns                   the order in which requests begin
    app                       puts together what follows
    middleware record         around every request: id, log line, metrics, trace
    cors origins              pages of other origins
    access keys rate          API keys, roles, rates
    routes operations pages   what is asked for: images and model; probes, metrics, reload; pages
    gate                      how many requests and bytes are let in
    upload                    body to image files
    classifier                image file to what the model says of it, by way of:
      decoder forker          image file to pixels, in processes that can be killed
      decoder_process         what these run
      batcher predictor       single images to batches; ONNX Runtime
      decision uncertainty    label, set and flag; how sure
      cautions gradcam png    warnings; overlay
    answers schemas etag      what was found as JSON
    errors problems           failures: the one table of statuses; RFC 9457

and beside it::

    settings cpus             what can be set
    service_links             variables of Kubernetes that are no settings
    standard_streams          standard input, output and error that are closed at the start
    runtime slot served       life of the server; the model in use and its exchange
    loader                    a bundle to a model that answers
    codecs memory workers     image libraries; memory given back; threads
    logs metrics tracing      what an operator sees
    exposition                the metrics as text
    drift                     predictions against the bundle's reference
    docs examples             what OpenAPI says beyond types
    commands offline          the command line; files without a server
    static                    the pages' files
"""

import os

# ONNX Runtime reports its use to its maker unless told not to before it is loaded; see its Privacy.md.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
# pydantic asks every installed package whether it is a plugin of it: a tenth of a second, and none is wanted.
os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
