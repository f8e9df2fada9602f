package bootstrap

import (
	"bytes"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/pilot-lite/pilot-lite/pkg/model"
)

// Sidecar is what BuildSidecar needs to know about an injected pod. What is known only when the pod runs (its name, namespace and address) stands
// in the output as $(POD_NAME), $(POD_NAMESPACE) and $(POD_IP): the container needs these in its environment, from the downward API, and the
// kubelet puts them in the place of the names in the container's arguments.
type Sidecar struct {
	// Server is the control plane, "host:port", and ServerName the name in its certificate, which one of CABundle (PEM) has signed.
	Server, ServerName string
	CABundle           []byte
	// TokenPath is the file of the service account's token, and AdminPath the UNIX socket of the admin interface.
	TokenPath, AdminPath string
	// Probes are the kubelet's probes of the application, which the sidecar answers in its place.
	Probes []Probe
	// IPv6 says that pods' first addresses are IPv6 in this cluster: HTTP probes then send them in brackets.
	IPv6 bool
	// MaxHeapBytes and MaxConnections are as in Config.
	MaxHeapBytes   uint64
	MaxConnections int64
}

const (
	// HealthPort is where a sidecar answers the kubelet: ReadyPath, and ProbePath of each probe.
	HealthPort = model.HealthPort
	// ReadyPath is answered with 200 as soon as the sidecar's first configuration is complete.
	ReadyPath = "/ready"

	podName, podNamespace, podIP = "$(POD_NAME)", "$(POD_NAMESPACE)", "$(POD_IP)"

	// maxArgument is below what Linux lets one argument be (128 KiB), with room for what the names above stand for.
	maxArgument = 120 << 10
)

// BuildSidecar makes the bootstrap of an injected pod's sidecar, for Args.
func BuildSidecar(s Sidecar) (*bootstrapv3.Bootstrap, error) {
	if err := checkBundle(s.CABundle); err != nil {
		return nil, fmt.Errorf("bootstrap: CA bundle: %w", err)
	}
	if s.TokenPath == "" {
		return nil, errors.New("bootstrap: no token path: want the file of the service account's token")
	}
	b, err := Build(Config{
		Namespace: podNamespace, Pod: podName, Server: literal(s.Server),
		TLS:       &TLS{CA: literal(string(s.CABundle)), ServerName: literal(s.ServerName)},
		TokenFile: literal(s.TokenPath), Admin: "unix:" + literal(s.AdminPath),
		MaxHeapBytes: s.MaxHeapBytes, MaxConnections: s.MaxConnections,
	})
	if err != nil {
		return nil, err
	}
	if err := checkProbes(s.Probes); err != nil {
		return nil, fmt.Errorf("bootstrap: %w", err)
	}
	health, err := healthListener(s.Probes)
	if err != nil {
		return nil, fmt.Errorf("bootstrap: %w", err)
	}
	metrics, err := metricsListener()
	if err != nil {
		return nil, fmt.Errorf("bootstrap: %w", err)
	}
	b.StaticResources.Listeners = []*listenerv3.Listener{health, metrics}
	for name, connections := range map[string]float64{healthName: healthConnections, metricsName: metricsConnections} {
		b.LayeredRuntime.Layers[0].GetStaticLayer().Fields["envoy.resource_limits.listener."+name+".connection_limit"] = structpb.NewNumberValue(connections)
	}
	host := podIP
	if s.IPv6 {
		host = "[" + podIP + "]"
	}
	for _, p := range s.Probes {
		cluster, err := p.cluster(host)
		if err != nil {
			return nil, fmt.Errorf("bootstrap: probe %q: %w", p.Name, err)
		}
		b.StaticResources.Clusters = append(b.StaticResources.Clusters, cluster)
	}
	b.StaticResources.Clusters = append(b.StaticResources.Clusters, metricsCluster(b.GetAdmin().GetAddress().GetPipe().GetPath()))
	return b, nil
}

// Args are the arguments of the sidecar's container. The same bootstrap gives the same arguments, so that one pod template gives one pod.
func Args(b *bootstrapv3.Bootstrap) ([]string, error) {
	text, err := protojson.Marshal(b)
	if err != nil {
		return nil, fmt.Errorf("bootstrap: %w", err)
	}
	var compact bytes.Buffer // protojson varies its white space on purpose
	if err := json.Compact(&compact, text); err != nil {
		return nil, fmt.Errorf("bootstrap: %w", err)
	}
	if compact.Len() > maxArgument {
		return nil, fmt.Errorf("bootstrap: %d bytes, and one argument holds %d: want fewer probes or a smaller CA bundle", compact.Len(), maxArgument)
	}
	return []string{
		"--config-yaml", compact.String(),
		"--concurrency", "2",
		// One Envoy a pod, which is never replaced in place: no shared memory, and nothing to pick a base id for.
		"--disable-hot-restart",
		"--log-level", "warning",
		"--log-format-escaped",
	}, nil
}

// Expand puts values in the place of $(NAME) and undoes literal, as the kubelet does with a container's arguments: for tests and for people who
// want to see what an Envoy is given.
func Expand(arg string, env map[string]string) string {
	pairs := []string{"$$", "$"}
	for _, name := range slices.Sorted(maps.Keys(env)) {
		pairs = append(pairs, "$("+name+")", env[name])
	}
	return strings.NewReplacer(pairs...).Replace(arg)
}

// literal keeps the kubelet from reading a reference to a variable where none is meant.
func literal(s string) string { return strings.ReplaceAll(s, "$", "$$") }

// checkBundle wants at least one certificate and nothing else: Envoy would refuse the bundle when the pod starts, and its private keys would be
// read by whoever may read pods.
func checkBundle(bundle []byte) error {
	found := false
	for rest := bytes.TrimSpace(bundle); len(rest) > 0; rest = bytes.TrimSpace(rest) {
		block, tail := pem.Decode(rest)
		if block == nil || block.Type != "CERTIFICATE" {
			return errors.New("want PEM blocks of type CERTIFICATE and nothing else")
		}
		if _, err := x509.ParseCertificate(block.Bytes); err != nil {
			return fmt.Errorf("read a certificate: %w", err)
		}
		found, rest = true, tail
	}
	if !found {
		return errors.New("want at least one certificate")
	}
	return nil
}
