package apitest

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

// KillEtcd ends etcd at once, as a crash would; the API server stays.
func (s *Server) KillEtcd() {
	s.t.Helper()
	s.etcd.kill()
}

// RestartEtcd starts etcd at the same address with what it had, and waits until the API server serves again.
func (s *Server) RestartEtcd() {
	s.t.Helper()
	s.etcd = s.etcd.again()
	s.waitReady()
	// That it is ready says nothing of writes, which wait for connections to etcd of their own.
	client := kubernetes.NewForConfigOrDie(s.admin)
	name := metav1.ObjectMeta{GenerateName: "written-"}
	Eventually(s.t, startTimeout, "the API server writes", func() error {
		_, err := client.CoreV1().ConfigMaps(metav1.NamespaceDefault).Create(context.Background(), &corev1.ConfigMap{ObjectMeta: name}, metav1.CreateOptions{})
		return err
	})
}

// Backup copies what etcd holds, and returns what makes that the present again: the API server and etcd are started anew, and resource versions go back.
func (s *Server) Backup(t testing.TB) (restore func()) {
	t.Helper()
	data, backup := s.etcdData(), filepath.Join(t.TempDir(), "backup")
	s.KillEtcd()
	if err := os.CopyFS(backup, os.DirFS(data)); err != nil {
		t.Fatal(err)
	}
	s.RestartEtcd()
	return func() {
		t.Helper()
		s.Stop()
		s.KillEtcd()
		if err := os.RemoveAll(data); err != nil {
			t.Fatal(err)
		}
		if err := os.CopyFS(data, os.DirFS(backup)); err != nil {
			t.Fatal(err)
		}
		s.etcd = s.etcd.again()
		s.Restart()
	}
}

// Compact makes etcd forget everything but the present.
func (s *Server) Compact(t testing.TB) {
	t.Helper()
	var now struct {
		Header struct{ Revision string }
	}
	s.askEtcd(t, "/v3/kv/range", map[string]any{"key": []byte{0}, "limit": 1}, &now)
	s.askEtcd(t, "/v3/kv/compaction", map[string]any{"revision": now.Header.Revision, "physical": true}, nil)
}

// Full makes etcd refuse writes, as one without space does, until the returned function is called.
func (s *Server) Full(t testing.TB) (end func()) {
	t.Helper()
	s.askEtcd(t, "/v3/maintenance/alarm", map[string]any{"action": "ACTIVATE", "alarm": "NOSPACE"}, nil)
	return func() {
		t.Helper()
		s.askEtcd(t, "/v3/maintenance/alarm", map[string]any{"action": "DEACTIVATE", "alarm": "NOSPACE"}, nil)
	}
}

func (s *Server) etcdData() string { return filepath.Join(s.dir, "etcd") }

// askEtcd calls etcd's gRPC gateway.
func (s *Server) askEtcd(t testing.TB, path string, question, answer any) {
	t.Helper()
	body, err := json.Marshal(question)
	if err != nil {
		t.Fatal(err)
	}
	Eventually(t, pauseTime, "etcd answers "+path, func() error {
		r, err := http.NewRequestWithContext(context.Background(), http.MethodPost, local("http", s.etcdPort)+path, bytes.NewReader(body))
		if err != nil {
			return err
		}
		client := http.Client{Timeout: 5 * time.Second}
		defer client.CloseIdleConnections()
		resp, err := client.Do(r)
		if err != nil {
			return err
		}
		defer func() { _ = resp.Body.Close() }()
		text, err := io.ReadAll(resp.Body)
		if err != nil || resp.StatusCode != http.StatusOK {
			return fmt.Errorf("%s: %s %w", resp.Status, text, err)
		}
		if answer == nil {
			return nil
		}
		return json.Unmarshal(text, answer)
	})
}
