# One image for every function: `docker build -t latchkey .`, then `docker run … latchkey <function id>`.
#
# Both base images can and should be pinned by digest, which CI can renew. Look them up and pass them on:
#   docker buildx imagetools inspect docker.io/library/node:24-bookworm-slim --format '{{.Manifest.Digest}}'
#   docker build --build-arg NODE_IMAGE=docker.io/library/node:24-bookworm-slim@sha256:… \
#                --build-arg RUNTIME_IMAGE=gcr.io/distroless/cc-debian12:nonroot@sha256:… -t latchkey .

# Node 24 and npm, for Debian 12.
ARG NODE_IMAGE=docker.io/library/node:24-bookworm-slim
# What that Node is linked against, of the same Debian: the C and C++ libraries. No shell, no package manager.
ARG RUNTIME_IMAGE=gcr.io/distroless/cc-debian12:nonroot

FROM ${NODE_IMAGE} AS bundles
WORKDIR /src
COPY package.json package-lock.json ./
RUN ["npm", "ci", "--ignore-scripts"]
COPY . .
RUN ["node", "shared/node/dev/bundle.ts", "/app"]
# What V8 compiles is good for this Node only.
RUN ["node", "shared/node/dev/fill-code-cache.ts", "/app"]

FROM ${RUNTIME_IMAGE}
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="latchkey" \
      org.opencontainers.image.description="Multi-tenant API key management: every function, each a program of its own" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=bundles /usr/local/bin/node /usr/local/bin/node
COPY --from=bundles /usr/local/LICENSE /usr/local/share/licenses/node/LICENSE
COPY --from=bundles /app /app
WORKDIR /app
USER 65532:65532
EXPOSE 8080
# Node finds <function id>.js in the working directory, and is process 1.
ENTRYPOINT ["/usr/local/bin/node"]
CMD ["all"]
