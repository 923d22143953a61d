# irvis on a Jetson AGX Xavier with JetPack 5.1: TensorRT 8.5.2 and OpenCV 4.5.4 are NVIDIA's; docs/docker.md.
# RUNTIME is the final image's base: all of JetPack, or TensorRT alone (nvcr.io/nvidia/l4t-tensorrt:r8.5.2-runtime).
ARG JETPACK=nvcr.io/nvidia/l4t-jetpack:r35.4.1
ARG RUNTIME=${JETPACK}

FROM ${JETPACK} AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN apt-get update \
    && apt-get install --yes --no-install-recommends g++ python3-dev python3-venv \
    && rm -rf /var/lib/apt/lists/*
# Not as root: building a package runs its code.
RUN useradd --create-home build && install --directory --owner build /opt/irvis /src
USER build
# JetPack's own pip is too old to know the wheels' tags.
RUN python3 -m venv /opt/irvis && /opt/irvis/bin/pip install pip==25.0.1
COPY docker/requirements-jetson.txt docker/source-jetson.txt /src/docker/
RUN /opt/irvis/bin/pip install --require-hashes --only-binary=:all: -r /src/docker/requirements-jetson.txt
# Through nvcc, pycuda finds CUDA's headers and the stub of the driver's libcuda.
ENV PATH=/usr/local/cuda/bin:$PATH
RUN printf 'CUDA_ENABLE_CURAND = False\n' > ~/.aksetup-defaults.py \
    && /opt/irvis/bin/pip install --require-hashes --no-deps --no-build-isolation -r /src/docker/source-jetson.txt
COPY --chown=build . /src
RUN /opt/irvis/bin/pip install --no-deps --no-build-isolation /src \
    # Only now, so that nothing counts as installed because this stage's system happens to have it.
    && sed -i '/^include-system-site-packages/s/false/true/' /opt/irvis/pyvenv.cfg

FROM ${RUNTIME}
LABEL org.opencontainers.image.title="irvis" \
      org.opencontainers.image.description="Infrared-visible image fusion by TensorRT on a Jetson AGX Xavier" \
      org.opencontainers.image.licenses="Apache-2.0"
# libopencv-python is NVIDIA's OpenCV 4.5.4 with GStreamer; Ubuntu's python3-opencv is 4.2, and would hide it.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends python3 python3-libnvinfer=8.5.2-1+cuda11.4 \
       libopencv-python=4.5.4-8-g3e4c170df4 gstreamer1.0-plugins-good gstreamer1.0-plugins-bad gstreamer1.0-libav \
    && rm -rf /var/lib/apt/lists/*
# The group video owns the cameras and, on a Jetson, the GPU.
RUN useradd --create-home --groups video irvis && install --directory --owner irvis /data
COPY --from=build /opt/irvis /opt/irvis
# OpenBLAS misidentifies the Xavier's cores.
ENV PATH=/opt/irvis/bin:$PATH OPENBLAS_CORETYPE=ARMV8
USER irvis
WORKDIR /data
STOPSIGNAL SIGTERM
# Fails if the container was started without --runtime nvidia, which brings the driver.
HEALTHCHECK --interval=5m --timeout=1m \
    CMD ["python3", "-c", "import irvis.runtime, pycuda.driver as cuda, tensorrt; cuda.init()"]
CMD ["irvis", "--help"]
