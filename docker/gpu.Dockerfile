# irvis on a workstation with an NVIDIA GPU: training, export, evaluation, TensorRT; docs/docker.md.
FROM python:3.11.14-slim-bookworm AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN apt-get update && apt-get install --yes --no-install-recommends g++ && rm -rf /var/lib/apt/lists/*
RUN python3 -m venv /opt/irvis
COPY docker/requirements-gpu.txt docker/source-gpu.txt /src/docker/
# CUDA comes with PyTorch's wheels.
RUN /opt/irvis/bin/pip install --require-hashes --only-binary=:all: -r /src/docker/requirements-gpu.txt
# pycuda has no wheels. CUDA's headers come with PyTorch. libcuda comes with the driver when a container starts; an
# empty one stands in for it at link time, and --no-as-needed keeps the linker from leaving it out.
RUN cuda=/opt/irvis/lib/python3.11/site-packages/nvidia/cu13 \
    && printf 'CUDA_ROOT = "%s"\nCUDA_ENABLE_CURAND = False\n' "$cuda" > ~/.aksetup-defaults.py \
    && gcc -shared -Wl,-soname,libcuda.so.1 -o /tmp/libcuda.so -x c /dev/null \
    && LIBRARY_PATH=/tmp LDFLAGS=-Wl,--no-as-needed /opt/irvis/bin/pip install --require-hashes --no-deps \
       --no-build-isolation -r /src/docker/source-gpu.txt
# From NVIDIA's own index, which hosts the libraries that PyPI's placeholder fetches; 10 is the last major version that
# takes precisions layer by layer. --build-arg TENSORRT= leaves it out.
ARG TENSORRT=10.16.1.11
RUN if [ -n "$TENSORRT" ]; then /opt/irvis/bin/pip install --no-deps --only-binary=:all: \
        --index-url https://pypi.nvidia.com \
        "tensorrt-cu13==$TENSORRT" "tensorrt-cu13-bindings==$TENSORRT" "tensorrt-cu13-libs==$TENSORRT"; fi
COPY . /src
RUN /opt/irvis/bin/pip install --no-deps --no-build-isolation /src

FROM python:3.11.14-slim-bookworm
LABEL org.opencontainers.image.title="irvis" \
      org.opencontainers.image.description="Infrared-visible image fusion: training and TensorRT on an NVIDIA GPU" \
      org.opencontainers.image.licenses="Apache-2.0"
RUN useradd --create-home --groups video irvis && install --directory --owner irvis /data
COPY --from=build /opt/irvis /opt/irvis
# NVIDIA's container toolkit reads the two NVIDIA_ variables.
ENV PATH=/opt/irvis/bin:$PATH NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
USER irvis
WORKDIR /data
STOPSIGNAL SIGTERM
# Fails if the container was started without a GPU.
HEALTHCHECK --interval=5m --timeout=1m CMD ["python3", "-c", "import irvis.runtime, pycuda.driver as cuda; cuda.init()"]
CMD ["irvis", "--help"]
