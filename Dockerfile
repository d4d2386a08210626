# slardar in a container: docs/packages.md says how it is run.
#
#   docker build --tag slardar .

# One Debian for both stages, as the libraries are built for its Python.
ARG DEBIAN=debian:bookworm-slim

FROM ${DEBIAN} AS build
RUN apt-get update \
 && apt-get install --yes --no-install-recommends \
        ca-certificates gcc libc6-dev python3 python3-dev python3-venv \
 && rm -rf /var/lib/apt/lists/*
WORKDIR /source
COPY setup.py pyproject.toml MANIFEST.in README.md LICENSE ./
COPY twisted twisted
COPY slardar slardar
# 1: the request path is compiled, or the build fails; 0: it is not compiled.
ARG SLARDAR_COMPILE=1
# Nobody may write in /opt/slardar later, so Twisted lists its plugins now.
RUN python3 -m venv /opt/slardar \
 && /opt/slardar/bin/pip install --no-cache-dir '.[acme,import,tracing,zookeeper]' \
 && find /opt/slardar -maxdepth 1 -type f ! -name pyvenv.cfg -delete \
 && /opt/slardar/bin/pip uninstall --yes --quiet setuptools pip \
 && /opt/slardar/bin/twistd --help >/dev/null

FROM ${DEBIAN}
LABEL org.opencontainers.image.title="slardar" \
      org.opencontainers.image.description="A programmable HTTP load balancer on Twisted" \
      org.opencontainers.image.licenses="MIT"
RUN apt-get update \
 && apt-get install --yes --no-install-recommends ca-certificates python3 \
 && rm -rf /var/lib/apt/lists/* \
 && groupadd --system --gid 1995 slardar \
 && useradd --system --uid 1995 --gid slardar --no-create-home \
        --home-dir /var/lib/slardar --shell /usr/sbin/nologin slardar \
 && install --directory --mode=0700 --owner=slardar --group=slardar /var/lib/slardar
COPY --from=build /opt/slardar /opt/slardar
COPY packaging/container/slardar.yaml /etc/slardar/slardar.yaml
ENV PATH=/opt/slardar/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
# As numbers: Kubernetes can see only of a number that it is not root.
USER 1995:1995
# The store and the control socket.
WORKDIR /var/lib/slardar
VOLUME /var/lib/slardar
EXPOSE 8080
# slardar finishes the requests under way, for timeouts.drain (30 s) at most.
STOPSIGNAL SIGTERM
# Asks the control channel, where SLARDAR_CONTROL says and with SLARDAR_TOKEN.
HEALTHCHECK --interval=30s --timeout=10s --start-period=30s --retries=3 CMD ["slardar", "status"]
ENTRYPOINT ["twistd", "--nodaemon", "--pidfile=", "slardar"]
CMD ["--config", "/etc/slardar/slardar.yaml"]
