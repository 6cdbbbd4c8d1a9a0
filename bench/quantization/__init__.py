"""Whether int8 pays on this processor, and why: ``make bench-quantization``.

Where to look:

    variants    the quantized graphs: which operators, which integers
    swish       one fusion that quantization breaks
    timing      graphs timed in turns; where ONNX Runtime's profiler says that the time goes
    layers      each convolution alone, float32 against int8, and which of them to quantize
    convolution one convolution as a graph of its own
    accuracy    what becomes of the probabilities
    pictures    the images for calibration and for judging
    page        all of it as Markdown
"""
