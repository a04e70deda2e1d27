# syntax=docker/dockerfile:1
# The image of server, migrations, training and Ray: for CPUs, or with VARIANT=cuda for NVIDIA GPUs.
#
#   docker build --tag imagelink:0.1.0 .
#   docker build --tag imagelink:0.1.0-cuda --build-arg VARIANT=cuda .
#
# To build the same again, name the base by its digest: --build-arg BASE=python@sha256:...
ARG BASE=python:3.11-slim-bookworm

FROM ${BASE} AS build
ARG VARIANT=cpu
WORKDIR /source
COPY requirements.lock pyproject.toml README.md LICENSE NOTICE ./
COPY clients/python clients/python
COPY indexing indexing
COPY server server
COPY training training
COPY benchmarks benchmarks
# PyTorch's own index has the same version without CUDA.
RUN --mount=type=cache,target=/root/.cache/pip \
    case "$VARIANT" in \
      cpu) index="--extra-index-url https://download.pytorch.org/whl/cpu" ;; \
      cuda) index="" ;; \
      *) echo "VARIANT is cpu or cuda, not $VARIANT."; exit 1 ;; \
    esac; \
    python -m pip install --ignore-installed --prefix /install $index \
      --constraint requirements.lock ./clients/python .
# What is in the image, with versions and licences.
RUN mkdir -p /install/share && python -m pip inspect \
      --path /install/lib/python3.11/site-packages >/install/share/imagelink-packages.json

FROM ${BASE}
# KubeRay starts Ray with bash, and asks for health with wget.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends bash wget \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 10001 --home-dir /tmp --no-create-home imagelink \
    && install --directory --owner imagelink --group imagelink /data \
    && install --directory --owner imagelink --group imagelink --mode 700 /var/lib/imagelink
# Into the system's own Python, where login shells find `ray` too.
COPY --from=build /install /usr/local
COPY LICENSE /usr/local/share/imagelink-LICENSE
COPY NOTICE /usr/local/share/imagelink-NOTICE
# The embedded PostgreSQL's package insists on a private folder at its import, which an emptyDir is not.
ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 HOME=/tmp IMAGELINK_DATA_DIR=/data \
    XDG_RUNTIME_DIR=/var/lib/imagelink
USER 10001:10001
WORKDIR /data
EXPOSE 9000 8000
CMD ["python", "-m", "server"]
