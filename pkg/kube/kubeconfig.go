package kube

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"reflect"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	apiv1 "k8s.io/client-go/tools/clientcmd/api/v1"
	"sigs.k8s.io/yaml"

	"github.com/pilot-lite/pilot-lite/internal/mistyped"
)

func restConfig(kubeconfig string) (*rest.Config, error) {
	if kubeconfig == "" && os.Getenv(clientcmd.RecommendedConfigPathEnvVar) == "" {
		config, err := rest.InClusterConfig()
		if err == nil {
			return config, nil
		}
		if !errors.Is(err, rest.ErrNotInCluster) {
			return nil, fmt.Errorf("no cluster to talk to: the token of this pod's service account cannot be read: %w; have it mounted (automountServiceAccountToken), or name a kubeconfig with --kubeconfig", err)
		}
	}
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	rules.ExplicitPath, rules.WarnIfAllMissing = kubeconfig, false
	config, err := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, nil).ClientConfig()
	if err != nil {
		return nil, fmt.Errorf("no cluster to talk to: %w", unusable(rules, err))
	}
	return config, nil
}

// unusable says why kubeconfigs lead to no cluster. What client-go says of it, in the words of its types and of variables that nothing here reads, is left for what is
// found in no other way.
func unusable(rules *clientcmd.ClientConfigLoadingRules, err error) error {
	places := rules.GetLoadingPrecedence()
	var files, wrong []string
	for _, place := range places {
		content, reading := os.ReadFile(place)
		if errors.Is(reading, fs.ErrNotExist) {
			continue
		}
		files = append(files, place)
		if reading != nil {
			wrong = append(wrong, reading.Error())
			continue
		}
		if why := noKubeconfig(content); why != "" {
			wrong = append(wrong, place+" is no kubeconfig: "+why)
		}
	}
	if len(files) == 0 {
		return fmt.Errorf("there is no kubeconfig at %s; name a kubeconfig with --kubeconfig", strings.Join(places, ", "))
	}
	if loaded, loading := rules.Load(); len(wrong) == 0 && loading == nil {
		wrong = missing(loaded, strings.Join(files, ", "))
	}
	if len(wrong) == 0 {
		wrong = []string{err.Error()}
	}
	return fmt.Errorf("%s; correct it, or name another with --kubeconfig", strings.Join(wrong, "; "))
}

// noKubeconfig says why a file cannot be one; "" where it may be.
func noKubeconfig(content []byte) string {
	body, err := yaml.YAMLToJSON(content)
	if err != nil {
		return strings.TrimPrefix(err.Error(), "yaml: ")
	}
	var is metav1.TypeMeta
	if yaml.Unmarshal(body, &is) == nil && (is.Kind != "" && is.Kind != "Config" || is.APIVersion != "" && is.APIVersion != apiv1.SchemeGroupVersion.String()) {
		return fmt.Sprintf("it has kind %q and apiVersion %q", is.Kind, is.APIVersion)
	}
	var words []string
	for _, v := range mistyped.In(body, reflect.TypeFor[apiv1.Config]()) {
		words = append(words, strings.TrimPrefix(v.Field+": ", ": ")+"it is "+v.Is+"; "+v.Remedy)
	}
	return strings.Join(words, "; ")
}

// missing is what the current context of kubeconfigs leads to and is not there. Where is where they are.
func missing(c *clientcmdapi.Config, where string) []string {
	context, known := c.Contexts[c.CurrentContext]
	switch {
	case clientcmdapi.IsConfigEmpty(c):
		return []string{where + " names no cluster"}
	case c.CurrentContext == "":
		return []string{where + " has no current-context" + among(c.Contexts)}
	case !known:
		return []string{fmt.Sprintf("current-context in %s names %q, which is no context of it%s", where, c.CurrentContext, among(c.Contexts))}
	}
	var out []string
	cluster, known := c.Clusters[context.Cluster]
	switch {
	case !known:
		out = append(out, fmt.Sprintf("context %q in %s names cluster %q, which is not in it%s", c.CurrentContext, where, context.Cluster, among(c.Clusters)))
	case cluster.Server == "":
		out = append(out, fmt.Sprintf("cluster %q in %s has no server", context.Cluster, where))
	default:
		out = append(out, absent(cluster.LocationOfOrigin, fmt.Sprintf("cluster %q", context.Cluster), "certificate-authority", cluster.CertificateAuthority)...)
	}
	user, known := c.AuthInfos[context.AuthInfo]
	switch {
	case !known && context.AuthInfo != "":
		out = append(out, fmt.Sprintf("context %q in %s names user %q, who is not in it%s", c.CurrentContext, where, context.AuthInfo, among(c.AuthInfos)))
	case known:
		who := fmt.Sprintf("user %q", context.AuthInfo)
		out = append(out, absent(user.LocationOfOrigin, who, "client-certificate", user.ClientCertificate)...)
		out = append(out, absent(user.LocationOfOrigin, who, "client-key", user.ClientKey)...)
		out = append(out, absent(user.LocationOfOrigin, who, "tokenFile", user.TokenFile)...)
	}
	return out
}

// among lists what there is to choose from.
func among[T any](named map[string]T) string {
	if len(named) == 0 {
		return ""
	}
	return " (there is " + strings.Join(slices.Sorted(maps.Keys(named)), ", ") + ")"
}

// absent says that a file which something names cannot be read.
func absent(where, who, field, file string) []string {
	if file == "" {
		return nil
	}
	if _, err := os.ReadFile(file); err != nil {
		return []string{fmt.Sprintf("%s of %s in %s: %s", field, who, where, err)}
	}
	return nil
}
