# Qwen3-TTS on an NVIDIA GPU; see docs/operations.md. PyTorch's wheels bring CUDA's libraries: the
# host needs the driver and NVIDIA's container toolkit only.
FROM python:3.11-slim-bookworm AS build

WORKDIR /source
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY src src
RUN python -m venv /opt/vivavoce \
    && /opt/vivavoce/bin/pip install --no-cache-dir '.[qwen3]' -c constraints.txt

FROM python:3.11-slim-bookworm

# Triton and torch.compile build small host programs when they first run.
RUN apt-get update \
    && apt-get install -y --no-install-recommends g++ \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 10001 --create-home --shell /usr/sbin/nologin vivavoce \
    && install -d -o vivavoce -g vivavoce /data /cache

COPY --from=build /opt/vivavoce /opt/vivavoce

ENV PATH=/opt/vivavoce/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    VIVAVOCE_HOST=0.0.0.0 \
    VIVAVOCE_ENGINE=qwen3 \
    VIVAVOCE_QWEN3__DEVICE=cuda \
    VIVAVOCE_NEUTTS__BACKBONE_DEVICE=cuda \
    VIVAVOCE_NEUTTS__CODEC_DEVICE=cuda \
    XDG_DATA_HOME=/data \
    XDG_CACHE_HOME=/cache

USER vivavoce
WORKDIR /data
VOLUME ["/data", "/cache"]
EXPOSE 8000

# The first start downloads the model, compiles and captures.
HEALTHCHECK --interval=10s --timeout=5s --start-period=20m --retries=3 \
    CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8000/readyz', timeout=4)"]

ENTRYPOINT ["vivavoce"]
CMD ["serve"]
