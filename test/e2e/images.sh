#!/usr/bin/env bash
# Makes the three images that the end to end test needs, without a registry, on a node whose images can be loaded from files.
#   LAB=/path/to/lab test/e2e/images.sh
# LAB is a program: `$LAB image NAME FILE=/path... -- ENTRYPOINT`. Where there is Docker, use the Dockerfile and `kind load docker-image` instead.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
: "${LAB:?set it to the program that makes and loads images}"
: "${ENVOY:?set it to an Envoy binary: make e2e-images does}"
: "${E2E_IMAGE:=pilot-lite/pilot-lite:dev}" "${E2E_SIDECAR_IMAGE:=envoyproxy/envoy:distroless-v1.40.0}" "${E2E_BOOKINFO_IMAGE:=pilot-lite/bookinfo:dev}"

version=$(git describe --tags --always --dirty 2>/dev/null || echo dev)
mkdir -p bin
CGO_ENABLED=0 go build -trimpath -mod=readonly -ldflags "-s -w -X main.version=$version" -o bin/pilot-lite ./cmd/pilot-lite
CGO_ENABLED=0 go build -trimpath -mod=readonly -ldflags "-s -w" -o bin/bookinfo ./examples/bookinfo/app
"$LAB" image "$E2E_IMAGE" bin/pilot-lite=/pilot-lite -- /pilot-lite
"$LAB" image "$E2E_BOOKINFO_IMAGE" bin/bookinfo=/bookinfo -- /bookinfo
"$LAB" image "$E2E_SIDECAR_IMAGE" "$ENVOY"=/usr/local/bin/envoy -- /usr/local/bin/envoy
