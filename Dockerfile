# Build:     docker build -t messenger-bridge .
# First use: docker run --rm -v ./bridge:/data messenger-bridge generate-config
#            then edit bridge/config.yaml (appservice.listen must be 0.0.0.0:29340 for others to reach the container), and
#            docker run --rm -v ./bridge:/data messenger-bridge generate-registration
# Run:       docker run -v ./bridge:/data messenger-bridge
# The bridge runs as user 65532, which must own the folder.

FROM rust:1.95-slim-bookworm AS build
# The allocator's own build asks for it.
RUN apt-get update && apt-get install -y --no-install-recommends make
WORKDIR /src
COPY . .
RUN cargo build --release --locked --bin messenger-bridge

FROM debian:bookworm-slim
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates \
    && rm -rf /var/lib/apt/lists/* \
    && install -d -o 65532 -g 65532 /data
COPY --from=build /src/target/release/messenger-bridge /usr/local/bin/messenger-bridge
WORKDIR /data
VOLUME /data
EXPOSE 29340
USER 65532:65532
# Reads ./config.yaml for the port; for another file set MESSENGER_BRIDGE_CONFIG, which `run` reads as well.
HEALTHCHECK --interval=30s --timeout=6s --start-period=60s --retries=3 \
    CMD ["/usr/local/bin/messenger-bridge", "health"]
ENTRYPOINT ["/usr/local/bin/messenger-bridge"]
CMD ["run"]
