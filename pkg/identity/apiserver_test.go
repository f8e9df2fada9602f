package identity

import (
	"bytes"
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/pilot-lite/pilot-lite/internal/apitest"
)

const ownNamespace = "pilot-lite-system"

// On a real API server, with the rights that the manifests give: of replicas that start at once one makes the authority, they rotate it together, put it back when
// it is deleted, and give the webhooks the bundle that they lack, whoever edited them.
func TestOnARealAPIServer(t *testing.T) {
	t.Parallel()
	s := apitest.New(t)
	root := apitest.Root(t)
	s.Apply(t, root+"/manifests/namespace.yaml", root+"/manifests/rbac.yaml", root+"/manifests/webhooks.yaml")
	admin := kubernetes.NewForConfigOrDie(s.Config())
	own := kubernetes.NewForConfigOrDie(s.User("system:serviceaccount:"+ownNamespace+":pilot-lite", "system:authenticated"))
	t.Cleanup(func() { apitest.CloseIdle(admin, own) })

	now := time.Now()
	var clock sync.Mutex
	c := config(own.CoreV1().Secrets(ownNamespace))
	c.Now = func() time.Time { clock.Lock(); defer clock.Unlock(); return now }
	c.Interval = 20 * time.Millisecond
	replicas := make([]*Manager, 6)
	var all sync.WaitGroup
	for i := range replicas {
		replicas[i] = New(c)
		all.Go(func() {
			if err := replicas[i].Start(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	agree := func(authorities int) {
		t.Helper()
		apitest.Eventually(t, 20*time.Second, fmt.Sprintf("all replicas know %d authorities", authorities), func() error {
			for _, m := range replicas {
				if n := bytes.Count(m.Bundle(), []byte("BEGIN")); n != authorities || !bytes.Equal(m.Bundle(), replicas[0].Bundle()) {
					return fmt.Errorf("one knows %d", n)
				}
			}
			return nil
		})
	}
	agree(1)
	for _, m := range replicas {
		running(t, m)
	}
	running(t, NewWebhooks(WebhookConfig{Client: own.AdmissionregistrationV1(), Name: webhooksName, Bundle: replicas[0].Bundle, Interval: 20 * time.Millisecond}))
	trusted := func() {
		t.Helper()
		apitest.Eventually(t, 5*time.Second, "the webhooks are trusted", func() error { return lacking(t.Context(), admin, replicas[0].Bundle()) })
	}
	trusted()
	edit := []byte(`[{"op": "replace", "path": "/webhooks/0/clientConfig/caBundle", "value": ""}]`)
	if _, err := admin.AdmissionregistrationV1().MutatingWebhookConfigurations().Patch(t.Context(), webhooksName, "application/json-patch+json", edit, metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	trusted()

	clock.Lock()
	now = now.Add(6*year + time.Hour)
	clock.Unlock()
	agree(2)
	trusted()
	if err := admin.CoreV1().Secrets(ownNamespace).Delete(t.Context(), SecretName, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	apitest.Eventually(t, 20*time.Second, "the Secret is put back", func() error {
		secret, err := admin.CoreV1().Secrets(ownNamespace).Get(t.Context(), SecretName, metav1.GetOptions{})
		if err == nil && !bytes.Equal(secret.Data[keyBundle], replicas[0].Bundle()) {
			t.Error("with another authority")
		}
		return err
	})
	agree(2)
}

// lacking says which webhook does not have the bundle.
func lacking(ctx context.Context, client kubernetes.Interface, bundle []byte) error {
	m, err := client.AdmissionregistrationV1().MutatingWebhookConfigurations().Get(ctx, webhooksName, metav1.GetOptions{})
	if err != nil {
		return err
	}
	v, err := client.AdmissionregistrationV1().ValidatingWebhookConfigurations().Get(ctx, webhooksName, metav1.GetOptions{})
	if err != nil {
		return err
	}
	for i := range m.Webhooks {
		if !bytes.Equal(m.Webhooks[i].ClientConfig.CABundle, bundle) {
			return fmt.Errorf("%s lacks it", m.Webhooks[i].Name)
		}
	}
	for i := range v.Webhooks {
		if !bytes.Equal(v.Webhooks[i].ClientConfig.CABundle, bundle) {
			return fmt.Errorf("%s lacks it", v.Webhooks[i].Name)
		}
	}
	if len(m.Webhooks) == 0 || len(v.Webhooks) == 0 {
		return fmt.Errorf("%d and %d webhooks", len(m.Webhooks), len(v.Webhooks))
	}
	return nil
}
