# irvis on a Jetson AGX Xavier with JetPack 5.1: TensorRT 8.5.2, Python 3.8 and OpenCV are the image's own.
#   docker build -f docker/jetson.Dockerfile -t irvis:jetson .
#   docker run --rm --runtime nvidia -v "$PWD:/data" -w /data irvis:jetson build_engine.py
# The host sets the power mode (sudo nvpmodel -m 0); a container can only read it.
FROM nvcr.io/nvidia/l4t-jetpack:r35.4.1

RUN apt-get update \
    && apt-get install --yes --no-install-recommends python3-pip python3-dev python3-libnvinfer python3-opencv g++ \
    && rm -rf /var/lib/apt/lists/*

# nvcc and the headers, for pycuda, which is compiled here.
ENV PATH=/usr/local/cuda/bin:$PATH CPATH=/usr/local/cuda/include LIBRARY_PATH=/usr/local/cuda/lib64 \
    OPENBLAS_CORETYPE=ARMV8
COPY . /opt/irvis
# JetPack's pip is older than pyproject.toml's editable installs.
RUN python3 -m pip install --no-cache-dir 'pip>=23,<25' \
    && python3 -m pip install --no-cache-dir '/opt/irvis[jetson]'

RUN useradd --create-home --groups video irvis
USER irvis
WORKDIR /data
CMD ["irvis", "--help"]
