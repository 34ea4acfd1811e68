# The engine with its CUDA kernels, for x86_64. Neither GPU nor driver is needed to build it; to run it on a GPU, the driver and
# NVIDIA's container toolkit on the host:
#
#   docker build --tag igpt-engine .
#   docker run --rm --gpus all --user "$(id -u):$(id -g)" --volume "$PWD:/work" igpt-engine train

FROM rust:1.95-bookworm AS build
# What `cargo xtask toolkit` needs to fetch the CUDA compiler. Debian's own release is the pin.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends python3-venv \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
RUN cargo xtask toolkit && cargo build --profile dist --locked --bin igpt-engine

FROM debian:bookworm-slim
COPY --from=build /src/target/dist/igpt-engine /usr/local/bin/
COPY LICENSE-APACHE LICENSE-MIT /usr/share/doc/igpt-engine/
RUN useradd --create-home --uid 1000 igpt && install --directory --owner igpt /work
USER 1000
WORKDIR /work
# "utility" brings NVML: power, temperature and clocks.
ENV NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
ENTRYPOINT ["igpt-engine"]
CMD ["doctor"]
