package identity

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	admissionclient "k8s.io/client-go/kubernetes/typed/admissionregistration/v1"
)

// WebhookConfig is what a Webhooks needs.
type WebhookConfig struct {
	Client admissionclient.AdmissionregistrationV1Interface
	Name   string // of both configurations
	Bundle func() []byte
	Logger *slog.Logger
	// Repaired is called for each configuration that was written; may be nil.
	Repaired func()
}

// Webhooks keeps the bundle in the webhooks' configurations, so that the API server trusts the control plane whoever edited them. Leader only.
type Webhooks struct{ WebhookConfig }

// repairInterval is how often they are looked at.
const repairInterval = 4 * time.Second

// NewWebhooks returns one; Run works.
func NewWebhooks(c WebhookConfig) *Webhooks { return &Webhooks{c} }

// Run repairs until ctx is done.
func (w *Webhooks) Run(ctx context.Context) error {
	tick := time.NewTicker(repairInterval)
	defer tick.Stop()
	for last := ""; ; {
		said := ""
		if err := w.repair(ctx); err != nil && ctx.Err() == nil {
			said = err.Error()
			if said != last {
				w.Logger.Error("the webhooks' configurations could not be given the authority: until they are, pods that want a sidecar are refused", "error", err)
			}
		}
		last = said
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

func (w *Webhooks) repair(ctx context.Context) error { return errors.Join(w.mutating(ctx), w.validating(ctx)) }

func (w *Webhooks) mutating(ctx context.Context) error {
	client := w.Client.MutatingWebhookConfigurations()
	c, err := client.Get(ctx, w.Name, metav1.GetOptions{})
	if err != nil {
		return fmt.Errorf("MutatingWebhookConfiguration %s: %w", w.Name, err)
	}
	changed := false
	for i := range c.Webhooks {
		changed = w.fill(&c.Webhooks[i].ClientConfig) || changed
	}
	if !changed {
		return nil
	}
	if _, err := client.Update(ctx, c, metav1.UpdateOptions{}); err != nil {
		return fmt.Errorf("MutatingWebhookConfiguration %s: %w", w.Name, err)
	}
	w.wrote("MutatingWebhookConfiguration")
	return nil
}

func (w *Webhooks) validating(ctx context.Context) error {
	client := w.Client.ValidatingWebhookConfigurations()
	c, err := client.Get(ctx, w.Name, metav1.GetOptions{})
	if err != nil {
		return fmt.Errorf("ValidatingWebhookConfiguration %s: %w", w.Name, err)
	}
	changed := false
	for i := range c.Webhooks {
		changed = w.fill(&c.Webhooks[i].ClientConfig) || changed
	}
	if !changed {
		return nil
	}
	if _, err := client.Update(ctx, c, metav1.UpdateOptions{}); err != nil {
		return fmt.Errorf("ValidatingWebhookConfiguration %s: %w", w.Name, err)
	}
	w.wrote("ValidatingWebhookConfiguration")
	return nil
}

// fill puts the bundle in, and says whether it was not there.
func (w *Webhooks) fill(c *admissionregistrationv1.WebhookClientConfig) bool {
	bundle := w.Bundle()
	if len(bundle) == 0 || bytes.Equal(c.CABundle, bundle) {
		return false
	}
	c.CABundle = bundle
	return true
}

func (w *Webhooks) wrote(kind string) {
	w.Logger.Info("gave the webhooks' configuration the authority", "kind", kind, "name", w.Name)
	if w.Repaired != nil {
		w.Repaired()
	}
}
