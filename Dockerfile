# Serving only: no TensorFlow, no training code. Runs as an ordinary user on a read-only file system.
#   docker build -t dermaserve .                             CPU
#   docker build -t dermaserve --build-arg DEVICE=gpu .      NVIDIA GPU; CUDA's libraries come as wheels
FROM python:3.11-slim-bookworm
ARG DEVICE=cpu

# The environment is a layer of its own: a change of code or model does not install anything again.
COPY requirements/serve-${DEVICE}.txt /tmp/requirements.txt
RUN python3 -m venv /opt/dermaserve \
    && /opt/dermaserve/bin/python -m pip install --no-cache-dir --disable-pip-version-check \
        --require-hashes -r /tmp/requirements.txt \
    && rm /tmp/requirements.txt

WORKDIR /app
COPY models models
COPY service service
# Compiled here: the file system is read-only later, and compiling costs seconds at every start.
RUN /opt/dermaserve/bin/python -m compileall -q models service \
    && useradd --system --uid 10001 --no-create-home dermaserve
USER 10001

# Inside a container the address is the container's own; what is published is decided outside.
ENV DERMASERVE_HOST=0.0.0.0 \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    PATH=/opt/dermaserve/bin:$PATH
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s --retries=3 \
    CMD ["python", "-c", "import http.client as h; c = h.HTTPConnection('127.0.0.1', 8000, timeout=2); c.request('GET', '/readyz'); raise SystemExit(c.getresponse().status != 200)"]
CMD ["python", "-m", "service"]
