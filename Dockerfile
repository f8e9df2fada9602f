# One static binary and nothing else. Build: docker buildx build --platform linux/amd64,linux/arm64 --build-arg VERSION=v0.1.0 .
# Pin the base to a digest before a release: docker buildx imagetools inspect golang:1.26-bookworm
FROM --platform=$BUILDPLATFORM golang:1.26-bookworm AS build
ARG TARGETOS TARGETARCH VERSION=dev
WORKDIR /src
COPY go.mod go.sum ./
RUN --mount=type=cache,target=/go/pkg/mod go mod download
COPY cmd cmd
COPY pkg pkg
RUN --mount=type=cache,target=/go/pkg/mod --mount=type=cache,target=/root/.cache/go-build \
    CGO_ENABLED=0 GOOS=$TARGETOS GOARCH=$TARGETARCH \
    go build -trimpath -mod=readonly -ldflags "-s -w -X main.version=$VERSION" -o /pilot-lite ./cmd/pilot-lite && \
    { ! ldd /pilot-lite 2>/dev/null || { echo "the binary is not static" >&2; exit 1; }; }

FROM scratch
COPY --from=build /pilot-lite /pilot-lite
USER 65532:65532
ENTRYPOINT ["/pilot-lite"]
CMD ["serve", "--from", "/etc/pilot-lite"]
