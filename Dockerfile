# One image: the command line, the controller and every provider. docs/docker.md shows how to use it, docs/adr/0025 why it
# is one. Any Debian or Ubuntu with Python 3.11 or later serves as BASE.
ARG BASE=debian:bookworm-slim

FROM ${BASE} AS build
RUN apt-get update \
 && DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends \
    ca-certificates gcc libc6-dev libvirt-dev pkg-config python3-dev python3-venv
# Where pip finds packages, if not where it looks by itself; its configuration in BASE (/etc/pip.conf) does as well.
ARG PIP_INDEX_URL
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /build
COPY requirements requirements
# pip stays in an environment of its own, so that the one that is kept has none.
RUN python3 -m venv /opt/pip \
 && /opt/pip/bin/pip install --quiet --require-hashes -r requirements/build.txt \
 && /opt/pip/bin/pip wheel --quiet --no-deps --no-build-isolation --require-hashes -w wheels -r requirements/libvirt.txt \
 && python3 -m venv --without-pip /opt/vmpower \
 && /opt/pip/bin/pip --python /opt/vmpower/bin/python install --quiet --require-hashes -r requirements/app.txt
COPY . .
RUN /opt/pip/bin/pip wheel --quiet --no-deps --no-build-isolation -w wheels . \
 && /opt/pip/bin/pip --python /opt/vmpower/bin/python install --quiet --no-deps --no-index wheels/*.whl

FROM ${BASE}
RUN apt-get update \
 && DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends \
    ca-certificates libvirt0 openssh-client python3 tini \
 && rm -rf /var/lib/apt/lists/* /var/cache/apt /var/cache/debconf/*-old /var/log/apt /var/log/dpkg.log
# ssh refuses a user without an entry, and keeps what it learns of hosts in the home: the state's volume, since the rest
# is read-only. A new volume gets the owner of the folder that it is mounted over.
RUN groupadd --gid 65532 vmpower \
 && useradd --uid 65532 --gid vmpower --home-dir /var/lib/vmpower --no-create-home --shell /usr/sbin/nologin vmpower \
 && install -d -o vmpower -g vmpower -m 0750 /var/lib/vmpower \
    /run/vmpower /run/vmpower/sim /run/vmpower/libvirt /run/vmpower/vsphere /run/vmpower/proxmox \
 && echo "GlobalKnownHostsFile /etc/vmpower/credentials/known_hosts /etc/ssh/ssh_known_hosts" \
    > /etc/ssh/ssh_config.d/vmpower.conf
COPY --from=build /opt/vmpower /opt/vmpower
ENV PATH=/opt/vmpower/bin:/usr/local/bin:/usr/bin:/bin \
    PYTHONDONTWRITEBYTECODE=1 \
    VMPOWER_HEALTH_LISTEN=127.0.0.1:9440 \
    VMPOWER_STATE_DIR=/var/lib/vmpower
USER 65532:65532
WORKDIR /var/lib/vmpower
HEALTHCHECK --interval=30s --timeout=10s --start-period=60s --retries=3 CMD ["python", "-m", "client.health"]
ENTRYPOINT ["tini", "--"]
CMD ["vmpower", "--help"]
ARG VERSION
ARG REVISION
LABEL org.opencontainers.image.title="vmpower" \
      org.opencontainers.image.description="Brings virtual machines down the way their owners want, and says truthfully how each one went down." \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
