package kube

import (
	"fmt"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

// Requests a second, and at once: a control plane that comes back has many companions and statuses to look at.
const (
	requestsPerSecond = 200
	requestsAtOnce    = 400
)

// Clients talk to one API server.
type Clients struct {
	REST     *rest.Config
	Client   kubernetes.Interface
	Policies *Policies
}

// Connect makes clients from a kubeconfig: the named file, else the cluster that this process runs in, else what kubectl would use. Nothing is sent yet.
func Connect(kubeconfig, userAgent string) (*Clients, error) {
	config, err := restConfig(kubeconfig)
	if err != nil {
		return nil, err
	}
	return NewClients(config, userAgent)
}

// NewClients makes clients of a configuration, which they share from then on.
//
// A connection whose other end is gone is noticed by HTTP/2 pings, which client-go sends after 30 s of silence and waits 15 s for: before a quiet watch counts as old.
func NewClients(config *rest.Config, userAgent string) (*Clients, error) {
	config.QPS, config.Burst, config.UserAgent = requestsPerSecond, requestsAtOnce, userAgent
	typed := rest.CopyConfig(config)
	typed.AcceptContentTypes, typed.ContentType = "application/vnd.kubernetes.protobuf,application/json", "application/vnd.kubernetes.protobuf"
	c := &Clients{REST: config}
	var err error
	if c.Client, err = kubernetes.NewForConfig(typed); err != nil {
		return nil, fmt.Errorf("make a client: %w", err)
	}
	if c.Policies, err = NewPolicies(config); err != nil {
		return nil, err
	}
	return c, nil
}
