# syntax=docker/dockerfile:1
# Two images: the full one, and `--target slim` without the embedded store and Parquet.
# A layer each for dependencies and our code; no pip and no compiler. A release names its base by
# digest: --build-arg BASE=docker.io/library/python:3.13-slim-trixie@sha256:...
ARG BASE=docker.io/library/python:3.13-slim-trixie

FROM ${BASE} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
RUN apt-get update \
    && apt-get install --yes --no-install-recommends binutils gcc libc6-dev libnghttp2-dev
RUN python -m venv /opt/build && python -m venv --without-pip /opt/rtb-segments
COPY requirements-build.lock /src/
RUN /opt/build/bin/pip install --no-compile --require-hashes --requirement /src/requirements-build.lock

FROM build AS slim-dependencies
COPY .ci/image-dependencies .ci/trim_dependencies.py requirements-slim.lock /src/
RUN sh /src/image-dependencies /src/requirements-slim.lock

FROM build AS dependencies
COPY .ci/image-dependencies .ci/trim_dependencies.py requirements-run.lock /src/
RUN sh /src/image-dependencies /src/requirements-run.lock

# The bid path is compiled on the way: see pyproject.toml.
FROM build AS code
COPY pyproject.toml README.md LICENSE /src/
COPY .ci/compile_cython.py /src/.ci/
COPY rtb /src/rtb
COPY segments /src/segments
RUN HATCH_BUILD_HOOKS_ENABLE=1 /opt/build/bin/pip wheel --no-deps --no-build-isolation --wheel-dir /wheels /src \
    && /opt/build/bin/pip --python /opt/rtb-segments/bin/python install --no-deps --no-compile --prefix /opt/code /wheels/*.whl \
    && find /opt/code -name '*.so' -exec strip --strip-unneeded {} + \
    && /opt/rtb-segments/bin/python -m compileall -q -s /opt/code -p /opt/rtb-segments /opt/code/lib

FROM ${BASE} AS base
# What the host of an agentic real time framework reads of its containers (ARTF 1.0).
# Labels, written by `make docs`: docs/make/manifest.py
LABEL agent-manifest='{"name": "rtb-segments", "version": "0.2.0", "description": "Puts segments of partners into bid requests", "vendor": "rtb-segments", "owner": "ops@example.com", "resources": {"cpu": "500m", "memory": "256Mi"}, "intents": ["ACTIVATE_SEGMENTS"], "dependencies": {}, "health": {"livenessProbe": {"httpGet": {"path": "/health/live", "port": 8080}, "periodSeconds": 5}, "readinessProbe": {"httpGet": {"path": "/health/ready", "port": 8080}, "periodSeconds": 5}}, "security": {"runAsNonRoot": true, "dropCapabilities": ["ALL"]}}'
LABEL com.iabtechlab.artf.descriptor="eyJuYW1lIjogInJ0Yi1zZWdtZW50cyIsICJ2ZXJzaW9uIjogIjAuMi4wIiwgImRlc2NyaXB0aW9uIjogIlB1dHMgc2VnbWVudHMgb2YgcGFydG5lcnMgaW50byBiaWQgcmVxdWVzdHMiLCAidmVuZG9yIjogInJ0Yi1zZWdtZW50cyIsICJvd25lciI6ICJvcHNAZXhhbXBsZS5jb20iLCAicmVzb3VyY2VzIjogeyJjcHUiOiAiNTAwbSIsICJtZW1vcnkiOiAiMjU2TWkifSwgImludGVudHMiOiBbIkFDVElWQVRFX1NFR01FTlRTIl0sICJkZXBlbmRlbmNpZXMiOiB7fSwgImhlYWx0aCI6IHsibGl2ZW5lc3NQcm9iZSI6IHsiaHR0cEdldCI6IHsicGF0aCI6ICIvaGVhbHRoL2xpdmUiLCAicG9ydCI6IDgwODB9LCAicGVyaW9kU2Vjb25kcyI6IDV9LCAicmVhZGluZXNzUHJvYmUiOiB7Imh0dHBHZXQiOiB7InBhdGgiOiAiL2hlYWx0aC9yZWFkeSIsICJwb3J0IjogODA4MH0sICJwZXJpb2RTZWNvbmRzIjogNX19LCAic2VjdXJpdHkiOiB7InJ1bkFzTm9uUm9vdCI6IHRydWUsICJkcm9wQ2FwYWJpbGl0aWVzIjogWyJBTEwiXX19"
LABEL com.iabtechlab.artf.container-version="0.2.0"
LABEL org.opencontainers.image.version="0.2.0"
# End of labels
LABEL org.opencontainers.image.title="rtb-segments" \
    org.opencontainers.image.description="Adds audience segments to OpenRTB bid requests, and never for a person who said no" \
    org.opencontainers.image.licenses="MIT"
ARG REVISION=unknown
LABEL org.opencontainers.image.revision=${REVISION}
# HTTP/2 is spoken by it; Debian's has the limits on resets and CONTINUATION.
RUN apt-get update && apt-get install --yes --no-install-recommends libnghttp2-14 \
    && rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/cache/debconf/* /var/log/* \
    && rm -rf /usr/local/bin/pip* /usr/local/lib/python3*/ensurepip \
    /usr/local/lib/python3*/site-packages/pip* /usr/share/python-wheels
# For group 0 as well: some platforms give each container a user of their own, in that group.
RUN useradd --system --uid 10001 --gid 0 --no-create-home segments \
    && install --directory --owner=segments --group=root --mode=0770 /data
ENV PATH=/opt/rtb-segments/bin:$PATH \
    PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 \
    SEGMENTS_DATA_DIR=/data GRPC_PORT=50051 \
    RTB_ADMIN_HOST=0.0.0.0 SEGMENTS_LOADER_HOST=0.0.0.0 \
    SEGMENTS_UP_CONSOLE=if_public SEGMENTS_CONSOLE_HOST=0.0.0.0
USER 10001:0
VOLUME /data
EXPOSE 8080 8081 8082 8083 2222 50051
# Runs with a read-only root file system and no capabilities: only /data is written.
# HEALTH_PORT is whichever port of the process answers /health/live: the bid listener's by default;
# with TLS or without, whoever issued its certificate.
HEALTHCHECK --interval=5s --timeout=2s --start-period=20s CMD ["python", "-c", \
"import os,ssl,urllib.request as r\n\
e = os.environ.get\n\
at = f\"://127.0.0.1:{e('HEALTH_PORT') or e('RTB_ADMIN_PORT') or '8081'}/health/live\"\n\
try: r.urlopen('http' + at, timeout=1)\n\
except OSError: r.urlopen('https' + at, timeout=1, context=ssl._create_unverified_context())"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["rtb-segments"]
CMD ["up"]

FROM base AS slim
COPY --from=slim-dependencies /opt/rtb-segments /opt/rtb-segments
COPY --from=code /opt/code /opt/rtb-segments

FROM base
COPY --from=dependencies /opt/rtb-segments /opt/rtb-segments
COPY --from=code /opt/code /opt/rtb-segments
