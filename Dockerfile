# A box with everything that `make setup` installs, on a CPU or an NVIDIA GPU (without one leave out
# --gpus all). Linted; where this was written there is no Docker to build it with.
#   docker build -t ijepa .
#   docker run --rm --gpus all -v "$PWD":/work -w /work ijepa dvc repro
# The container works on your checkout, so results, records and checkpoints stay in it.
FROM python:3.11-slim

# git: DVC and provenance; make: the targets of the Makefile
# hadolint ignore=DL3008  # Debian keeps no old versions to pin
RUN apt-get update \
    && apt-get install --yes --no-install-recommends git make \
    && rm -rf /var/lib/apt/lists/*

# The dependencies change seldom and take minutes: a layer of their own, above the code.
COPY requirements.lock /opt/ijepa/
RUN python -m pip install --no-cache-dir --require-hashes -r /opt/ijepa/requirements.lock

# For the command's name and version; what runs is the checkout that is mounted (PYTHONPATH).
COPY pyproject.toml README.md LICENSE /opt/ijepa/
COPY ijepa /opt/ijepa/ijepa
RUN python -m pip install --no-cache-dir --no-deps --no-build-isolation /opt/ijepa \
    && git config --system --add safe.directory /work

ENV PYTHONPATH=/work DVC_NO_ANALYTICS=1
WORKDIR /work
CMD ["ijepa", "--help"]
