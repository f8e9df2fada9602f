package identity

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"
)

const webhooksName = "pilot-lite"

func configurationsOf(bundles ...string) []runtime.Object {
	meta := metav1.ObjectMeta{Name: webhooksName}
	m, v := &admissionregistrationv1.MutatingWebhookConfiguration{ObjectMeta: meta}, &admissionregistrationv1.ValidatingWebhookConfiguration{ObjectMeta: meta}
	for _, b := range bundles {
		client := admissionregistrationv1.WebhookClientConfig{CABundle: []byte(b)}
		m.Webhooks = append(m.Webhooks, admissionregistrationv1.MutatingWebhook{ClientConfig: client})
		v.Webhooks = append(v.Webhooks, admissionregistrationv1.ValidatingWebhook{ClientConfig: client})
	}
	return []runtime.Object{m, v}
}

// stand returns the bundles of all webhooks as they stand.
func stand(t testing.TB, client *fake.Clientset) (bundles []string) {
	t.Helper()
	m, err := client.AdmissionregistrationV1().MutatingWebhookConfigurations().Get(t.Context(), webhooksName, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	v, err := client.AdmissionregistrationV1().ValidatingWebhookConfigurations().Get(t.Context(), webhooksName, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for i := range m.Webhooks {
		bundles = append(bundles, string(m.Webhooks[i].ClientConfig.CABundle))
	}
	for i := range v.Webhooks {
		bundles = append(bundles, string(v.Webhooks[i].ClientConfig.CABundle))
	}
	return bundles
}

func updates(client *fake.Clientset) (n int) {
	for _, a := range client.Actions() {
		if a.GetVerb() == "update" {
			n++
		}
	}
	return n
}

// What is missing, old, or somebody else's is replaced within five seconds, and what is right is not written.
func TestWebhooksAreGivenTheBundle(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		client := fake.NewClientset(configurationsOf("", "old", "theirs")...)
		registry := prometheus.NewRegistry()
		var bundle atomic.Value
		bundle.Store([]byte("ours"))
		running(t, NewWebhooks(WebhookConfig{
			Client: client.AdmissionregistrationV1(), Name: webhooksName, Bundle: func() []byte { return bundle.Load().([]byte) }, Metrics: NewMetrics(registry),
		}))
		wait := func(want string) {
			t.Helper()
			time.Sleep(5 * time.Second)
			synctest.Wait()
			for i, got := range stand(t, client) {
				if got != want {
					t.Errorf("webhook %d has %q, want %q", i, got, want)
				}
			}
		}
		wait("ours")
		if n := updates(client); n != 2 {
			t.Errorf("%d writes, want one for each configuration", n)
		}
		time.Sleep(time.Minute)
		if n := updates(client); n != 2 {
			t.Errorf("%d writes though nothing was to be done", n)
		}
		for _, o := range configurationsOf("theirs", "ours", "") {
			if err := client.Tracker().Update(admissionregistrationv1.SchemeGroupVersion.WithResource(resourceOf(o)), o, ""); err != nil {
				t.Fatal(err)
			}
		}
		wait("ours")
		bundle.Store([]byte("ours and its successor"))
		wait("ours and its successor")
		if got := value(t, registry, "pilot_lite_webhooks_repairs_total"); got != 6 {
			t.Errorf("%v repairs in the metrics, want 6", got)
		}
	})
}

func resourceOf(o runtime.Object) string {
	if _, is := o.(*admissionregistrationv1.MutatingWebhookConfiguration); is {
		return "mutatingwebhookconfigurations"
	}
	return "validatingwebhookconfigurations"
}

// A write that somebody was faster with is tried again at once. What fails is said once, raises a metric, and keeps the other configuration from nothing.
func TestWebhooksThatCannotBeWritten(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		client := fake.NewClientset(configurationsOf("")...)
		registry := prometheus.NewRegistry()
		var forbidden atomic.Bool
		forbidden.Store(true)
		conflicts := 3
		client.PrependReactor("update", "mutatingwebhookconfigurations", func(clienttesting.Action) (bool, runtime.Object, error) {
			resource := schema.GroupResource{Resource: "mutatingwebhookconfigurations"}
			if forbidden.Load() {
				return true, nil, apierrors.NewForbidden(resource, webhooksName, errors.New("no rights"))
			}
			if conflicts--; conflicts >= 0 {
				return true, nil, apierrors.NewConflict(resource, webhooksName, nil)
			}
			return false, nil, nil
		})
		running(t, NewWebhooks(WebhookConfig{
			Client: client.AdmissionregistrationV1(), Name: webhooksName, Bundle: func() []byte { return []byte("ours") }, Metrics: NewMetrics(registry),
			Logger: slog.New(slog.NewTextHandler(&log, nil)),
		}))
		time.Sleep(time.Minute)
		synctest.Wait()
		if got := strings.Join(stand(t, client), ","); got != ",ours" {
			t.Errorf("got %q, want the validating one alone", got)
		}
		if n := strings.Count(log.String(), "could not be given"); n != 1 || value(t, registry, "pilot_lite_webhooks_untrusted") != 1 {
			t.Errorf("said %d times, metric %v", n, value(t, registry, "pilot_lite_webhooks_untrusted"))
		}
		forbidden.Store(false)
		time.Sleep(3 * time.Second)
		synctest.Wait()
		if got := strings.Join(stand(t, client), ","); got != "ours,ours" {
			t.Errorf("got %q", got)
		}
		if value(t, registry, "pilot_lite_webhooks_untrusted") != 0 {
			t.Error("the metric stays")
		}
	})
}

// Without an authority nothing is written: an empty bundle would mean the system's authorities.
func TestNoBundleIsNotWritten(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		client := fake.NewClientset(configurationsOf("theirs")...)
		running(t, NewWebhooks(WebhookConfig{Client: client.AdmissionregistrationV1(), Name: webhooksName, Bundle: func() []byte { return nil }}))
		time.Sleep(time.Minute)
		if n := updates(client); n != 0 {
			t.Errorf("%d writes", n)
		}
	})
}

// A replica whose lease is lost writes nothing, even before it is stopped.
func TestOnlyTheLeaderWrites(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		client := fake.NewClientset(configurationsOf("theirs")...)
		var leads atomic.Bool
		running(t, NewWebhooks(WebhookConfig{
			Client: client.AdmissionregistrationV1(), Name: webhooksName, Bundle: func() []byte { return []byte("ours") }, Leads: leads.Load,
		}))
		time.Sleep(time.Minute)
		if n := updates(client); n != 0 {
			t.Errorf("%d writes without the lease", n)
		}
		leads.Store(true)
		time.Sleep(5 * time.Second)
		if n := updates(client); n != 2 {
			t.Errorf("%d writes with it, want 2", n)
		}
	})
}
