//go:build tools

// Package apiserver pins the Kubernetes API server that make bench builds where there is none. It is a module of its own: nobody else needs what it needs.
package apiserver

import _ "k8s.io/kubernetes/cmd/kube-apiserver"
