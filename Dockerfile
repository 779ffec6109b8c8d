# The gateway as a container.
#
#   docker build -t spillway .
#   docker run --rm spillway token --name app                     a token, and its line for the file of tokens
#   docker run --rm --memory=256m spillway lab overflow --policy unbounded      what a bound is for (docs/labs.md); also drop-newest
#   docker run --memory=256m -p 8080:8080 -v spillway-data:/data -v "$PWD/etc:/etc/spillway:ro" spillway
#
# Promises: not root; the log is in /data, nothing else is written; SIGTERM (docker stop) drains; without a file of tokens it does
# not start, because it listens beyond loopback: the rule of the gateway holds here as well. docs/operate.md says more, and
# scripts/try-docker.sh tries it.

FROM node:24-bookworm-slim AS build
RUN apt-get update \
 && apt-get install -y --no-install-recommends cmake g++ make \
 && rm -rf /var/lib/apt/lists/*
WORKDIR /app
# Where packages come from, when it is not npm's own registry: --build-arg NPM_CONFIG_REGISTRY=…
ARG NPM_CONFIG_REGISTRY
COPY package.json package-lock.json ./
# Without scripts: node-gyp would fetch the headers of this Node; the addon is built below, with those of a package.
RUN npm ci --ignore-scripts --no-audit --no-fund
COPY CMakeLists.txt ./
COPY native native
# cmake-js uses the package node-api-headers where this key says so, and else downloads as well.
RUN npm pkg set --json 'binary.napi_versions[0]=8' && npm run build:native
COPY tsconfig.json ./
COPY src src
COPY workers workers
# The experiments of `spillway lab`, and what they need.
COPY bench/lib bench/lib
COPY bench/labs bench/labs
# Without test/ and the benches: what the image does not hold need not compile.
RUN npm run build \
 && find dist \( -name '*.map' -o -name '*.d.ts' -o -name .tsbuildinfo \) -delete \
 && npm prune --omit=dev --ignore-scripts --no-audit --no-fund
# Where the addon does not load, the image would quietly be a slow one (mode js).
RUN node -e "require('node-gyp-build')('/app')"

FROM node:24-bookworm-slim
WORKDIR /app
COPY package.json LICENSE ./
COPY --from=build /app/node_modules node_modules
COPY --from=build /app/build/Release/spillway.node build/Release/spillway.node
COPY --from=build /app/dist dist
# A new volume takes owner and mode of the folder it is mounted on.
RUN mkdir /data /etc/spillway && chown node:node /data && chmod 750 /data

# Options of the gateway; each can be set again by -e, by a file (SPILLWAY_CONFIG), or behind `serve`.
#   DRAIN_MS   below the ten seconds after which docker stop kills, so that the report of what is left is still written
#   the others make the memory sum 239 MiB, for a container of 256 MiB in which the health check runs as well
# The heap caps that belong to them are in NODE_OPTIONS: V8 takes them only when it starts, and left alone takes more than the
# container has. Whoever sets other options sets other caps; `serve` says which, and does not start with larger ones.
# MALLOC_… are glibc's: left alone it keeps freed bodies in an arena for each thread, up to 40 MiB more (docs/operate.md).
ENV NODE_ENV=production \
    NODE_OPTIONS="--max-old-space-size=42 --max-semi-space-size=4" \
    MALLOC_ARENA_MAX=2 \
    MALLOC_MMAP_THRESHOLD_=1048576 \
    SPILLWAY_DIR=/data \
    SPILLWAY_HTTP=0.0.0.0:8080 \
    SPILLWAY_TCP=0.0.0.0:8081 \
    SPILLWAY_TOKENS=/etc/spillway/tokens \
    SPILLWAY_DRAIN_MS=8000 \
    SPILLWAY_LANE_BYTES=8MiB \
    SPILLWAY_MAX_WAITING_BYTES=4MiB \
    SPILLWAY_INGRESS_BYTES=9MiB \
    SPILLWAY_DECODED_BODY_BYTES=8MiB \
    SPILLWAY_MAX_CONNECTIONS=128 \
    SPILLWAY_DEDUPE_KEYS=25000

USER node
VOLUME /data
EXPOSE 8080 8081
# /readyz needs no token. Says no while draining, on a full disk, and once the log is poisoned. The address is that of the
# environment: where it is set another way, and with mutual TLS, use --no-healthcheck and a probe of your own.
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 \
  CMD ["node", "-e", "const s = (process.env.SPILLWAY_TLS_CERT ?? 'off') === 'off' ? '' : 's'; require('http' + s).get(`http${s}://${process.env.SPILLWAY_HTTP}/readyz`, { rejectUnauthorized: false }, (r) => process.exit(r.statusCode === 200 ? 0 : 1)).on('error', () => process.exit(1))"]
ENTRYPOINT ["node", "/app/dist/src/cli/main.js"]
CMD ["serve"]
