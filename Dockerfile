# Serving only: no TensorFlow, no training code, no pip of its own. An ordinary user, a read-only file system.
#   docker build -t dermaserve .                             CPU
#   docker build -t dermaserve --build-arg DEVICE=gpu .      NVIDIA GPU; CUDA's libraries come as wheels
#   docker build --build-arg EXTRAS="dicom grpc heif otel" . DICOM files, gRPC, HEIC files, OpenTelemetry traces
# BASE may name a digest (python@sha256:...) or a mirror; it needs Python 3.11, 3.12 or 3.13 with venv.
ARG BASE=python:3.11-slim-bookworm

FROM ${BASE} AS environment
ARG DEVICE=cpu
ARG EXTRAS=
COPY requirements/serve-${DEVICE}.txt requirements/dicom.txt requirements/dicom-bridge.txt requirements/grpc.txt requirements/heif.txt requirements/otel.txt /tmp/requirements/
# The base's pip installs: the environment needs none, and has none to be misused. Packages' own tests go.
RUN python3 -m venv --without-pip /opt/dermaserve \
    && cd /tmp/requirements \
    && python3 -m pip --python /opt/dermaserve/bin/python install --no-cache-dir --disable-pip-version-check \
        --require-hashes -r serve-${DEVICE}.txt $(for extra in ${EXTRAS}; do echo "-r ${extra}.txt"; done) \
    && find /opt/dermaserve -type d -name tests -prune -exec rm -r {} +

# What was installed, as CycloneDX: written from the environment itself, and shipped with it.
FROM environment AS sbom
COPY requirements/audit.txt /tmp/
RUN python3 -m venv /opt/sbom \
    && /opt/sbom/bin/python -m pip install --no-cache-dir --disable-pip-version-check \
        --require-hashes -r /tmp/audit.txt
COPY pyproject.toml /tmp/
RUN /opt/sbom/bin/cyclonedx-py environment --output-reproducible --pyproject /tmp/pyproject.toml \
        --output-format JSON --output-file /opt/sbom.cdx.json /opt/dermaserve/bin/python

FROM ${BASE} AS code
WORKDIR /app
COPY models models
COPY service service
# Compiled here: the file system is read-only later, and compiling costs seconds at every start.
RUN python3 -m compileall -q --invalidation-mode unchecked-hash models service

FROM ${BASE}
RUN useradd --system --uid 10001 --no-create-home dermaserve
WORKDIR /app
USER 10001

# Inside a container the address is the container's own; what is published is decided outside.
ENV DERMASERVE_HOST=0.0.0.0 \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    PATH=/opt/dermaserve/bin:$PATH
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s --retries=3 \
    CMD ["python", "-c", "import http.client as h, os; c = h.HTTPConnection('127.0.0.1', int(os.environ.get('DERMASERVE_PORT', 8000)), timeout=2); c.request('GET', '/readyz'); raise SystemExit(c.getresponse().status != 200)"]
CMD ["python", "-m", "service"]

# The environment is a layer of its own: a change of code or model does not install anything again.
COPY --from=environment /opt/dermaserve /opt/dermaserve
COPY --from=sbom /opt/sbom.cdx.json /opt/sbom.cdx.json
COPY --from=code /app /app

ARG REVISION=unknown
LABEL org.opencontainers.image.title="dermaserve" \
      org.opencontainers.image.description="Skin-lesion classifier over HTTP. Research use only, not for diagnosis." \
      org.opencontainers.image.licenses="Apache-2.0 AND CC-BY-NC-4.0" \
      org.opencontainers.image.revision="${REVISION}"
