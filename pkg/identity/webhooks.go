package identity

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	admissionclient "k8s.io/client-go/kubernetes/typed/admissionregistration/v1"
)

// WebhookConfig is what a Webhooks needs.
type WebhookConfig struct {
	Client  admissionclient.AdmissionregistrationV1Interface
	Name    string // of both configurations
	Bundle  func() []byte
	Leads   func() bool // asked before each write; nil: always
	Logger  *slog.Logger
	Metrics *Metrics // may be nil
	// Interval is how often they are looked at; 2 s where 0.
	Interval time.Duration
}

// Webhooks keeps the bundle in the webhooks' configurations, so that the API server trusts the control plane whoever edited them. Leader only.
type Webhooks struct{ config WebhookConfig }

const (
	// repairInterval leaves time for a second attempt within the 5 s in which a repair is promised.
	repairInterval = 2 * time.Second
	repairTime     = 10 * time.Second
)

// The kinds of configurations.
const (
	mutatingKind   = "MutatingWebhookConfiguration"
	validatingKind = "ValidatingWebhookConfiguration"
)

// NewWebhooks returns one; Run works.
func NewWebhooks(c WebhookConfig) *Webhooks {
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Interval == 0 {
		c.Interval = repairInterval
	}
	if c.Leads == nil {
		c.Leads = func() bool { return true }
	}
	return &Webhooks{config: c}
}

// Run repairs until ctx is done.
func (w *Webhooks) Run(ctx context.Context) error {
	defer w.config.Metrics.notLooking()
	tick := time.NewTicker(w.config.Interval)
	defer tick.Stop()
	for said := ""; ; {
		text := ""
		if err := w.repair(ctx); err != nil && ctx.Err() == nil {
			text = err.Error()
			if text != said {
				w.config.Logger.Error("the webhooks' configurations could not be given the authority: until they are, pods that want a sidecar may be refused", "error", err)
			}
		}
		said = text
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// repair looks at both. One that cannot be repaired does not keep the other from it.
func (w *Webhooks) repair(ctx context.Context) error {
	mutating, validating := w.config.Client.MutatingWebhookConfigurations(), w.config.Client.ValidatingWebhookConfigurations()
	return errors.Join(
		repairOne(ctx, w, mutatingKind, mutating, func(c *admissionregistrationv1.MutatingWebhookConfiguration) []*admissionregistrationv1.WebhookClientConfig {
			var out []*admissionregistrationv1.WebhookClientConfig
			for i := range c.Webhooks {
				out = append(out, &c.Webhooks[i].ClientConfig)
			}
			return out
		}),
		repairOne(ctx, w, validatingKind, validating, func(c *admissionregistrationv1.ValidatingWebhookConfiguration) []*admissionregistrationv1.WebhookClientConfig {
			var out []*admissionregistrationv1.WebhookClientConfig
			for i := range c.Webhooks {
				out = append(out, &c.Webhooks[i].ClientConfig)
			}
			return out
		}),
	)
}

// configurations is what the typed clients of both kinds can do.
type configurations[T runtime.Object] interface {
	Get(ctx context.Context, name string, o metav1.GetOptions) (T, error)
	Update(ctx context.Context, object T, o metav1.UpdateOptions) (T, error)
}

// repairOne puts the bundle into each webhook of one configuration, unless it is there. The write is refused if somebody wrote in between, and is then tried once more.
func repairOne[T runtime.Object](ctx context.Context, w *Webhooks, kind string, client configurations[T], parts func(T) []*admissionregistrationv1.WebhookClientConfig) error {
	bundle := w.config.Bundle()
	if len(bundle) == 0 {
		return nil // there is no authority yet
	}
	for attempt := 1; ; attempt++ {
		wrote, err := fill(ctx, w, bundle, client, parts)
		if apierrors.IsConflict(err) && attempt < attempts {
			continue
		}
		if ctx.Err() == nil {
			w.config.Metrics.trusted(kind, err == nil)
		}
		if err != nil {
			return fmt.Errorf("%s %s: %w", kind, w.config.Name, err)
		}
		if wrote {
			w.config.Metrics.repaired(kind)
			w.config.Logger.Info("gave the webhooks' configuration the authority", "kind", kind, "name", w.config.Name)
		}
		return nil
	}
}

// fill says whether the bundle was missing somewhere, and is there now.
func fill[T runtime.Object](ctx context.Context, w *Webhooks, bundle []byte, client configurations[T], parts func(T) []*admissionregistrationv1.WebhookClientConfig) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, repairTime)
	defer cancel()
	c, err := client.Get(ctx, w.config.Name, metav1.GetOptions{})
	if err != nil {
		return false, err
	}
	lacking := false
	for _, part := range parts(c) {
		lacking = lacking || !bytes.Equal(part.CABundle, bundle)
		part.CABundle = bundle
	}
	if !lacking || !w.config.Leads() {
		return false, nil
	}
	_, err = client.Update(ctx, c, metav1.UpdateOptions{})
	return err == nil, err
}
