"""Serving on an NVIDIA GPU, measured in one call: ``python -m bench.gpu``, or ``make bench-gpu``.

    __main__   the command line and the order of everything
    card       whether there is a GPU, what it is called, what it can do at best
    graph      operations and numbers moved, counted from the ONNX file; float16 and fixed-size copies
    session    one graph in one variant: precision, IOBinding, CUDA graph, channels last, TensorRT
    raw        images per second by variant and batch size; accuracy against float32 on the CPU
    service    the service under load, in float16 too; what its metrics say, what the cores decode
    report     floors, and everything as Markdown

Written without a GPU. ``--rehearse`` and the tests run all of it on the CPU but for these lines, which have
never run. Whoever runs them first, look here when something fails:

- ``session._providers``: the options of the CUDA and TensorRT providers;
- ``session.open_session`` with a session that starts on a GPU;
- ``session.Runner`` with ``device="cuda"``: the copy to the device by ``update_inplace``, the wait in
  ``synchronize_outputs``, recording and replaying a CUDA graph, the copy back by ``numpy()``;
- ``card.missing_gpu`` from ``preload_dlls`` to the empty answer, with a real build for GPUs;
- ``card.describe_card`` beyond "there is no nvidia-smi";
- ``card._fastest`` with sizes for a GPU (8192, 1 GiB): only small ones were run;
- ``service.serve`` with ``"cuda"``, and ``service.status_without_gpu`` where a GPU is hidden, not absent.
"""
