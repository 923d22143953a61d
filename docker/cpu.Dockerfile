# irvis on any machine, through ONNX Runtime on the CPU; docs/docker.md.
FROM python:3.11.14-slim-bookworm AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python3 -m venv /opt/irvis
COPY docker/requirements-cpu.txt /src/docker/
RUN /opt/irvis/bin/pip install --require-hashes --only-binary=:all: -r /src/docker/requirements-cpu.txt
COPY . /src
RUN /opt/irvis/bin/pip install --no-deps --no-build-isolation /src

FROM python:3.11.14-slim-bookworm
LABEL org.opencontainers.image.title="irvis" \
      org.opencontainers.image.description="Infrared-visible image fusion on the CPU" \
      org.opencontainers.image.licenses="Apache-2.0"
# The group video owns /dev/video*.
RUN useradd --create-home --groups video irvis && install --directory --owner irvis /data
COPY --from=build /opt/irvis /opt/irvis
ENV PATH=/opt/irvis/bin:$PATH
USER irvis
WORKDIR /data
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=5m --timeout=1m CMD ["python3", "-c", "import irvis.runtime, onnxruntime"]
CMD ["irvis", "--help"]
