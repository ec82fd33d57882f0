# The API: no PyTorch in it. Build from the repository's root: docker build -f docker/api.Dockerfile .
FROM python:3.13-slim
RUN useradd --create-home --uid 10001 simclr
WORKDIR /app
COPY docker/requirements-api.lock ./
RUN pip install --no-cache-dir --require-hashes -r requirements-api.lock
COPY pyproject.toml README.md ./
COPY models models
COPY service service
COPY trainer trainer
RUN pip install --no-cache-dir --no-deps --no-build-isolation .
USER simclr
EXPOSE 8000
HEALTHCHECK --start-period=30s CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8000/healthz')"]
CMD ["simclr", "api", "--host", "0.0.0.0", "--port", "8000", "--allow-unauthenticated-network"]
