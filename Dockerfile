# syntax=docker/dockerfile:1
# Two stages: the first builds a virtual environment from the lock files, the
# second is Python, that environment, and a user who owns nothing but /data.

FROM python:3.11-slim-bookworm AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
RUN apt-get update && apt-get install --yes --no-install-recommends gcc libc6-dev
RUN python -m venv /opt/build && python -m venv /opt/rtb-segments
COPY requirements-build.lock requirements-run.lock /src/
RUN /opt/build/bin/pip install --require-hashes --requirement /src/requirements-build.lock
RUN /opt/rtb-segments/bin/pip install --require-hashes --requirement /src/requirements-run.lock
COPY pyproject.toml README.md LICENSE /src/
COPY .ci/compile_cython.py /src/.ci/
COPY rtb /src/rtb
COPY segments /src/segments
# The bid path is compiled on the way: see pyproject.toml.
RUN HATCH_BUILD_HOOKS_ENABLE=1 /opt/build/bin/pip wheel --no-deps --no-build-isolation --wheel-dir /wheels /src \
    && /opt/rtb-segments/bin/pip install --no-deps /wheels/*.whl \
    && /opt/rtb-segments/bin/python -m compileall -q /opt/rtb-segments/lib

FROM python:3.11-slim-bookworm
# What the host of an agentic real time framework reads of its containers (ARTF 1.0).
LABEL agent-manifest='{"name":"rtb-segments","version":"0.1.0","vendor":"rtb-segments",\
"intents":["ACTIVATE_SEGMENTS"],"health":{"live":"/health/live","ready":"/health/ready","port":8081},\
"ports":{"openrtb":8080,"health":8081}}'
RUN useradd --system --uid 10001 --user-group --no-create-home segments \
    && install --directory --owner=segments --group=segments --mode=0700 /data
COPY --from=build /opt/rtb-segments /opt/rtb-segments
ENV PATH=/opt/rtb-segments/bin:$PATH \
    PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 \
    SEGMENTS_DATA_DIR=/data \
    RTB_ADMIN_HOST=0.0.0.0 SEGMENTS_LOADER_HOST=0.0.0.0
USER 10001:10001
VOLUME /data
EXPOSE 8080 8081 8082 2222
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
