# larq_filter with all extras. Nobody here has built this file yet: where it was written there is no
# Docker. Please say what you find.
#
#     docker build -t larq_filter .
#     docker build -t larq_filter:gpu --build-arg CUDA="[and-cuda]" .
#     docker run --rm -v "$PWD/runs:/runs" larq_filter train --output_dir=/runs/first
#     docker run --rm --gpus all ... larq_filter:gpu train ...
FROM python:3.11-slim

ARG CUDA=""
WORKDIR /src
COPY . .
# The GPU's libraries come with TensorFlow's own extra, of the pinned version.
RUN pip install --no-cache-dir -c constraints.txt "tensorflow${CUDA}" ".[all]"

WORKDIR /runs
ENTRYPOINT ["larq-filter"]
CMD ["--help"]
