# The service as an image: Python, what requirements.txt pins, our code; no compiler, no pip, no embedded servers.
# Tags are pinned here. A release also pins what they mean that day: PYTHON=python:3.11-slim-bookworm@sha256:…
# (`docker buildx imagetools inspect python:3.11-slim-bookworm` tells it). 3.11 is what the tests run on.
ARG PYTHON=python:3.11-slim-bookworm
ARG NODE=node:24-bookworm-slim

# hadolint ignore=DL3006
FROM ${PYTHON} AS packages
# An environment beside the image's own Python; both stages have that one at the same place.
RUN python -m venv --without-pip /opt/key2key
COPY requirements.txt /tmp/
RUN pip --python /opt/key2key/bin/python install --no-cache-dir --disable-pip-version-check \
        --no-deps --require-hashes --only-binary :all: -r /tmp/requirements.txt

# hadolint ignore=DL3006
FROM ${NODE} AS assets
WORKDIR /assets
COPY package.json package-lock.json .npmrc ./
# The lock holds the hashes; .npmrc lets no package run anything.
RUN npm ci --omit=dev

# hadolint ignore=DL3006
FROM ${PYTHON}
RUN groupadd --gid 10001 key2key \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /var/lib/key2key --shell /usr/sbin/nologin key2key \
    && install --directory --owner 10001 --group 10001 --mode 0700 /var/lib/key2key \
    && python -m pip uninstall --yes --quiet --root-user-action ignore setuptools wheel pip
ENV PATH=/opt/key2key/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    K2K_ENVIRONMENT=production \
    K2K_HOME=/var/lib/key2key \
    K2K_SERVER__HOST=0.0.0.0 \
    K2K_LOG__FORMAT=json
WORKDIR /app
COPY --from=packages /opt/key2key /opt/key2key
COPY --from=assets /assets/node_modules/swagger-ui-dist node_modules/swagger-ui-dist
COPY --from=assets /assets/node_modules/centrifuge node_modules/centrifuge
COPY run.py ./
COPY config/default.toml config/
COPY sql sql
COPY k2k k2k
# Compiled once here, since a read-only container cannot.
RUN python -m compileall -q k2k run.py

# A number, so that an orchestrator can see that it is not root.
USER 10001:10001
VOLUME /var/lib/key2key
EXPOSE 8080
STOPSIGNAL SIGTERM
# Straight to the process, whatever proxy the environment names.
HEALTHCHECK --interval=5s --timeout=3s --start-period=90s --retries=3 \
    CMD ["python", "-c", "from urllib.request import ProxyHandler as P, build_opener as b; b(P({})).open('http://127.0.0.1:8080/health/live', timeout=2)"]
ENTRYPOINT ["python", "run.py"]
CMD ["serve"]
