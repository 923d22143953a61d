# irvis on any machine, through ONNX Runtime on the CPU.
#   docker build -f docker/cpu.Dockerfile -t irvis:cpu .
#   docker run --rm -v "$PWD:/data" -w /data irvis:cpu irvis demo
FROM python:3.11-slim-bookworm

COPY . /opt/irvis
RUN python -m pip install --no-cache-dir '/opt/irvis[cpu]'

RUN useradd --create-home irvis
USER irvis
WORKDIR /data
CMD ["irvis", "--help"]
