# niwaki in a small image: `docker build -t niwaki .`, then
# `docker run --rm -e NIWAKI_ALLOW_REMOTE=true -p 127.0.0.1:7700:7700 -v niwaki:/var/lib/niwaki niwaki`. docs/operations.md has the rest.

FROM rust:1.95-bookworm AS build
WORKDIR /src
# rust-toolchain.toml stays outside: it asks for tools that only developers need.
COPY Cargo.toml Cargo.lock build.rs ./
COPY proto proto
COPY migrations migrations
COPY examples examples
COPY kernels kernels
COPY src src
# Cargo names every test and bench target, also those that are not built here.
COPY tests/main.rs tests/main.rs
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --release --locked --bin niwaki && cp target/release/niwaki /niwaki && mkdir /data

FROM debian:bookworm-slim
LABEL org.opencontainers.image.title="niwaki" \
      org.opencontainers.image.description="Makes neural networks smaller and says honestly what that cost" \
      org.opencontainers.image.licenses="MIT OR Apache-2.0"
COPY --from=build --chmod=755 /niwaki /usr/local/bin/niwaki
COPY --from=build --chown=65532:65532 /data /var/lib/niwaki
USER 65532:65532
# A container must listen on all its addresses, so the server refuses to start without keys (NIWAKI_AUTH_KEYS, a file of
# `niwaki keys create`), unless NIWAKI_ALLOW_REMOTE=true says that everybody who reaches the port may use it.
ENV NIWAKI_LISTEN=0.0.0.0:7700 \
    NIWAKI_DATA=/var/lib/niwaki
VOLUME /var/lib/niwaki
EXPOSE 7700
HEALTHCHECK --interval=10s --timeout=5s --start-period=5s CMD ["niwaki", "server", "health"]
ENTRYPOINT ["niwaki"]
CMD ["serve"]
