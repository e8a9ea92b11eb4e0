# The studio in a container, from the same pins as development:
#   docker build -t osasis .
#   docker run -p 127.0.0.1:7860:7860 -v osasis:/data -e OSASIS_STUDIO_PASSWORD=secret osasis
# Add --gpus all for an NVIDIA GPU; torch from PyPI brings what it needs of CUDA.
FROM python:3.11-slim

# OpenCV's wheel needs glib for nothing that is used here, but loads it in some builds
RUN apt-get update \
    && apt-get install -y --no-install-recommends libglib2.0-0 \
    && rm -rf /var/lib/apt/lists/*

WORKDIR /opt/osasis
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY src ./src
RUN pip install --no-cache-dir -c constraints.txt '.[studio]' \
    && useradd --create-home --uid 10001 osasis \
    && install -d -o osasis /data

USER osasis
ENV OSASIS_DATA=/data OSASIS_CACHE=/data/cache
VOLUME /data
EXPOSE 7860
# set OSASIS_STUDIO_PASSWORD, or publish the port on 127.0.0.1 only
CMD ["osasis", "studio", "--host", "0.0.0.0", "--data", "/data/studio"]
