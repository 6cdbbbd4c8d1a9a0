"""Benchmarks of the service, side by side in one run: ``python -m bench``, or ``make bench``.

Where to look:

    rounds          what is measured, and in which order
    recorder        a cell measured: a server started, a child process run, what came of it kept
    images          the JPEG files that everything is measured with
    limit           what the machine can do without a server
    load connection the clients: closed and open loop; what they speak
    servers vitals  a server as a child process; what it takes of the machine
    peers           the servers to compare with, one file each
    micro           the parts of a request; the shipped graph against the plain export
    export          the plain export with random weights
    results spread  entries saved as JSON; medians and quantiles
    targets report  the targets and tables of ratios
    queueing plot   what of a latency is the queue's own; the picture
    machine         what it was measured on

Of their own: ``train...`` (``make bench-train``), ``gpu`` (``make bench-gpu``) and ``quantization``
(``make bench-quantization``).
"""
