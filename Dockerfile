# One image for the operator and the pollers: `headrace operator`, `headrace poller`.
FROM python:3.11-slim AS build

ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore

# The environment has no pip of its own: nothing in the image can install anything into it.
RUN python -m venv --without-pip /opt/headrace && python -m venv /opt/build

WORKDIR /src
COPY requirements/ requirements/
RUN /opt/build/bin/pip install --quiet --no-compile --no-deps --require-hashes -r requirements/build.txt \
 && /opt/build/bin/pip --python /opt/headrace/bin/python install --quiet --no-compile --no-deps --only-binary :all: \
      --require-hashes -r requirements/runtime.txt
# The root of the file system is read-only at run time, so byte code is made here. It is never compared with its
# source again: layers do not keep the times that such a comparison relies on.
RUN /opt/headrace/bin/python -m compileall -q -j 0 --invalidation-mode unchecked-hash /opt/headrace/lib

COPY LICENSE README.md pyproject.toml ./
COPY operator/ operator/
RUN /opt/build/bin/pip wheel --quiet --no-deps --no-build-isolation --wheel-dir dist . \
 && /opt/build/bin/pip --python /opt/headrace/bin/python install --quiet --no-compile --no-deps dist/*.whl \
 && /opt/headrace/bin/python -m compileall -q --invalidation-mode unchecked-hash /opt/headrace/lib/python3*/site-packages/headrace

FROM python:3.11-slim

ARG VERSION=dev
ARG REVISION=unknown
LABEL org.opencontainers.image.title="headrace" \
      org.opencontainers.image.description="AWS Lambda's event source mappings for any container, on any Kubernetes cluster" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"

COPY --from=build /opt/headrace /opt/headrace
# USER: the user stands in no /etc/passwd, and a cluster may choose another; libraries that ask for its name find it here.
ENV PATH=/opt/headrace/bin:/usr/local/bin:/usr/bin:/bin \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    USER=headrace \
    HOME=/tmp
WORKDIR /
# A number, so that Kubernetes can see that it is not root.
USER 65532:65532
ENTRYPOINT ["headrace"]
CMD ["--help"]
