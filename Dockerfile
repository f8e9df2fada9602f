# Two images, each one static binary and nothing else:
#   docker buildx build --platform linux/amd64,linux/arm64 --build-arg VERSION=v0.1.0 -t pilot-lite/pilot-lite:v0.1.0 .
#   docker build --target bookinfo -t pilot-lite/bookinfo:dev .                       # the example's application
# Pin the base to a digest before a release: docker buildx imagetools inspect golang:1.26-bookworm
FROM --platform=$BUILDPLATFORM golang:1.26-bookworm AS source
ARG TARGETOS TARGETARCH
ENV CGO_ENABLED=0 GOOS=$TARGETOS GOARCH=$TARGETARCH GOFLAGS="-trimpath -mod=readonly -tags=grpcnotrace"
WORKDIR /src
COPY go.mod go.sum ./
RUN --mount=type=cache,target=/go/pkg/mod go mod download

FROM source AS build
ARG VERSION=dev
COPY cmd cmd
COPY pkg pkg
COPY internal internal
RUN --mount=type=cache,target=/go/pkg/mod --mount=type=cache,target=/root/.cache/go-build \
    go build -ldflags "-s -w -X main.version=$VERSION" -o /pilot-lite ./cmd/pilot-lite && \
    { ! ldd /pilot-lite 2>/dev/null || { echo "the binary is not static" >&2; exit 1; }; }

FROM source AS build-bookinfo
COPY examples/bookinfo/app examples/bookinfo/app
RUN --mount=type=cache,target=/go/pkg/mod --mount=type=cache,target=/root/.cache/go-build \
    go build -ldflags "-s -w" -o /bookinfo ./examples/bookinfo/app

FROM scratch AS bookinfo
COPY --from=build-bookinfo /bookinfo /bookinfo
USER 65532:65532
ENTRYPOINT ["/bookinfo"]

# The control plane; and, as root with NET_ADMIN alone, the init container that captures a pod's traffic. What it does is said by its arguments.
FROM scratch AS pilot-lite
COPY --from=build /pilot-lite /pilot-lite
USER 65532:65532
ENTRYPOINT ["/pilot-lite"]
CMD ["serve", "--from", "/etc/pilot-lite"]
