package kube_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pilot-lite/pilot-lite/pkg/kube"
)

// What is wrong with a kubeconfig is told with its file, its name in there and a way out, in no words of Go's.
func TestKubeconfig(t *testing.T) {
	t.Parallel()
	const usable = "clusters: [{name: c, cluster: {server: 'https://127.0.0.1:6443'}}]\nusers: [{name: u, user: {token: t}}]\ncontexts: [{name: x, context: {cluster: c, user: u}}]\n"
	const remedy = "; correct it, or name another with --kubeconfig"
	for name, c := range map[string]struct{ content, want string }{
		"usable":  {usable + "current-context: x", ""},
		"text":    {"garbage", "FILE is no kubeconfig: it is text; write an object with some of kind, apiVersion, preferences, clusters, users, contexts, current-context, extensions" + remedy},
		"no YAML": {"clusters: [", "FILE is no kubeconfig: line 1: did not find expected node content" + remedy},
		"another kind": {
			"kind: Deployment\napiVersion: apps/v1", `FILE is no kubeconfig: it has kind "Deployment" and apiVersion "apps/v1"` + remedy,
		},
		"wrong types": {
			"clusters: {name: c}\nusers: [{name: u, user: {token: 7}}]",
			"FILE is no kubeconfig: clusters: it is an object; write a list; users[0].user.token: it is a number; put it in quotes" + remedy,
		},
		"nothing":        {"", "FILE names no cluster" + remedy},
		"no context":     {usable, "FILE has no current-context (there is x)" + remedy},
		"absent context": {usable + "current-context: z", `current-context in FILE names "z", which is no context of it (there is x)` + remedy},
		"absent cluster and user": {
			"clusters: [{name: c, cluster: {server: 's'}}]\ncontexts: [{name: x, context: {cluster: d, user: v}}]\ncurrent-context: x",
			`context "x" in FILE names cluster "d", which is not in it (there is c); context "x" in FILE names user "v", who is not in it` + remedy,
		},
		"no server": {"clusters: [{name: c, cluster: {insecure-skip-tls-verify: true}}]\ncontexts: [{name: x, context: {cluster: c}}]\ncurrent-context: x", `cluster "c" in FILE has no server` + remedy},
		"absent files": {
			"clusters: [{name: c, cluster: {server: s, certificate-authority: ca.crt}}]\nusers: [{name: u, user: {client-certificate: u.crt, client-key: u.key}}]\n" +
				"contexts: [{name: x, context: {cluster: c, user: u}}]\ncurrent-context: x",
			`certificate-authority of cluster "c" in FILE: open DIR/ca.crt: no such file or directory; ` +
				`client-certificate of user "u" in FILE: open DIR/u.crt: no such file or directory; client-key of user "u" in FILE: open DIR/u.key: no such file or directory` + remedy,
		},
		"absent token": {
			strings.ReplaceAll(usable, "token: t", "tokenFile: t") + "current-context: x", `tokenFile of user "u" in FILE: open DIR/t: no such file or directory` + remedy,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			file := filepath.Join(dir, "kubeconfig")
			if err := os.WriteFile(file, []byte(c.content), 0o600); err != nil {
				t.Fatal(err)
			}
			got := ""
			if _, err := kube.Connect(file, "test"); err != nil {
				got = strings.TrimPrefix(strings.NewReplacer(file, "FILE", dir, "DIR").Replace(err.Error()), "no cluster to talk to: ")
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Error("(-want +got)", diff)
			}
		})
	}
}

// Where no kubeconfig is named, it is said where one was looked for.
func TestNoKubeconfig(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("KUBECONFIG", dir+"/a"+string(filepath.ListSeparator)+dir+"/b")
	_, err := kube.Connect("", "test")
	if want := "no cluster to talk to: there is no kubeconfig at " + dir + "/a, " + dir + "/b; name a kubeconfig with --kubeconfig"; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	if err := os.WriteFile(dir+"/b", []byte("[]"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err = kube.Connect("", "test"); err == nil || !strings.Contains(err.Error(), dir+"/b is no kubeconfig: it is a list") {
		t.Errorf("got %v, want it to tell of b", err)
	}
}
