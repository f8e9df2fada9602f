package bench_test

import (
	"context"
	"crypto/tls"
	"encoding/gob"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/pilot-lite/pilot-lite/internal/apitest"
	"github.com/pilot-lite/pilot-lite/internal/certtest"
	"github.com/pilot-lite/pilot-lite/pkg/translate/rbac"
	"github.com/pilot-lite/pilot-lite/pkg/xds"
)

// The floor is the least that a control plane can do for an edit: it is told who is to get what, watches the policies and pods, puts the edit's marker into the bytes
// that it was given, marshals one response a workload, and sends it to the workload's sidecars. It authenticates nobody, knows no policy, and writes nothing.

// floorSettings are what the floor is told.
type floorSettings struct {
	Kubeconfig, Address, Admin string
	Certificate, Key           []byte              // PEM
	Nodes                      map[string]int      // the app of each node
	Apps                       []map[string][]body // the resources of each app, by type
	Policies                   map[string][]int    // the apps that a policy's edit changes
	Callees                    map[string][]int    // the apps that a new pod of an app changes
}

// body is a resource as it is sent.
type body struct {
	Name, Version string
	Value         []byte
}

// startFloor starts the floor on what the sidecars of a fleet hold now.
func startFloor(t testing.TB, c *cluster, f *fleet) (*server, *tls.Config) {
	t.Helper()
	s := &server{t: t, name: floorName, address: loopback(t), admin: loopback(t)}
	settings := floorSettings{
		Address: s.address, Admin: s.admin, Kubeconfig: apitest.Kubeconfig(t, c.Config()),
		Nodes: map[string]int{}, Apps: make([]map[string][]body, services), Policies: map[string][]int{}, Callees: map[string][]int{},
	}
	for _, sidecar := range f.sidecars {
		settings.Nodes[sidecar.pod.node()] = sidecar.pod.app
		if settings.Apps[sidecar.pod.app] == nil {
			settings.Apps[sidecar.pod.app] = bodies(sidecar)
		}
	}
	for app := range services {
		settings.Policies[appName(app)] = []int{app}
		settings.Policies[policyAll] = append(settings.Policies[policyAll], app)
		if app < servicesOfTen {
			settings.Policies[policyTen] = append(settings.Policies[policyTen], app)
		}
		for i := range rulesPerPolicy {
			caller := appName(app + i + 1)
			settings.Callees[caller] = append(settings.Callees[caller], app)
		}
	}
	var trust *tls.Config
	pair := certtest.SelfSigned(t, serverName)
	settings.Certificate, settings.Key, trust = pair.CertPEM, pair.KeyPEM, pair.Trust()
	path := filepath.Join(t.TempDir(), "floor")
	file, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(gob.NewEncoder(file).Encode(settings), file.Close()); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), floorVariable+"="+path, "GOGC=40", "GOMEMLIMIT="+memoryLimit())
	s.start(cmd)
	s.waitReady()
	return s, trust
}

func bodies(s *sidecar) map[string][]body {
	out := map[string][]body{}
	for typeURL, resources := range s.held {
		for _, name := range slices.Sorted(maps.Keys(resources)) {
			out[typeURL] = append(out[typeURL], body{name, resources[name].GetVersion(), resources[name].GetResource().GetValue()})
		}
	}
	return out
}

// floor is the server, in its own process.
type floor struct {
	discoveryv3.UnimplementedAggregatedDiscoveryServiceServer
	settings floorSettings

	mu      sync.Mutex
	version int
	streams map[int]map[*floorStream]struct{} // by app
	count   int
}

type floorStream struct {
	discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesServer
	mu  sync.Mutex // one response at a time
	app int
}

func serveFloor(path string) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	f := &floor{streams: map[int]map[*floorStream]struct{}{}}
	if err := gob.NewDecoder(file).Decode(&f.settings); err != nil {
		return err
	}
	pair, err := tls.X509KeyPair(f.settings.Certificate, f.settings.Key)
	if err != nil {
		return err
	}
	config, err := clientcmd.BuildConfigFromFlags("", f.settings.Kubeconfig)
	if err != nil {
		return err
	}
	client, err := rest.HTTPClientFor(config)
	if err != nil {
		return err
	}
	go f.watch(client, config.Host+"/apis/policy.pilot-lite.io/v1alpha1/namespaces/"+namespace+"/l7policies", f.policyChanged)
	go f.watch(client, config.Host+"/api/v1/namespaces/"+namespace+"/pods", f.podChanged)
	go func() {
		_ = http.ListenAndServe(f.settings.Admin, http.HandlerFunc(f.admin))
	}()
	l, err := net.Listen("tcp", f.settings.Address) //nolint:noctx // until the process ends
	if err != nil {
		return err
	}
	tlsConfig := &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS13, SessionTicketsDisabled: true}
	s := grpc.NewServer(grpc.Creds(credentials.NewTLS(tlsConfig)), grpc.ReadBufferSize(0), grpc.WriteBufferSize(8<<10), grpc.StaticStreamWindowSize(256<<10), grpc.StaticConnWindowSize(256<<10))
	discoveryv3.RegisterAggregatedDiscoveryServiceServer(s, f)
	return s.Serve(l)
}

func (f *floor) admin(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/metrics" {
		f.mu.Lock()
		defer f.mu.Unlock()
		fmt.Fprintf(w, "pilot_lite_proxies %d\n", f.count)
	}
}

// event is what the floor reads of a watch.
type event struct {
	Type   string
	Object struct {
		Metadata struct {
			Name       string
			Generation int64
			Labels     map[string]string
		}
		Spec struct {
			Ingress []struct {
				HTTP []struct{ Paths []struct{ Value string } }
			}
		}
		Status struct{ PodIP string }
	}
}

// watch follows a list from now on, for ever.
func (f *floor) watch(client *http.Client, url string, changed func(e *event)) {
	for ; ; time.Sleep(100 * time.Millisecond) {
		var list struct {
			Metadata struct{ ResourceVersion string }
		}
		if err := f.read(client, url, func(d *json.Decoder) error { return d.Decode(&list) }); err != nil {
			fmt.Fprintln(os.Stderr, err)
			continue
		}
		err := f.read(client, url+"?watch=1&resourceVersion="+list.Metadata.ResourceVersion, func(d *json.Decoder) error {
			for {
				var e event
				if err := d.Decode(&e); err != nil {
					return err
				}
				if e.Type == "MODIFIED" {
					changed(&e)
				}
			}
		})
		fmt.Fprintln(os.Stderr, err)
	}
}

func (f *floor) read(client *http.Client, url string, decode func(d *json.Decoder) error) error {
	r, err := http.NewRequestWithContext(context.Background(), http.MethodGet, url, http.NoBody)
	if err != nil {
		return err
	}
	resp, err := client.Do(r)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	return decode(json.NewDecoder(resp.Body))
}

func (f *floor) policyChanged(e *event) {
	if len(e.Object.Spec.Ingress) == 0 || len(e.Object.Spec.Ingress[0].HTTP) == 0 {
		return
	}
	marker := e.Object.Spec.Ingress[0].HTTP[0].Paths[0].Value[len(markerPrefix):]
	for _, app := range f.settings.Policies[e.Object.Metadata.Name] {
		f.change(app, func(slot []byte) []byte {
			if newestMarker(slot) >= atoi(marker) {
				return nil // a status was written, or nothing
			}
			out := slices.Clone(slot)
			eachMarker(out, func(digits []byte) { copy(digits, marker) })
			return out
		})
	}
}

func atoi(digits string) int64 { return newestMarker([]byte(string(markerPrefix) + digits)) }

// podChanged appends some bytes, as an address would be: sidecars of the benchmark do not look at them.
func (f *floor) podChanged(e *event) {
	if e.Object.Status.PodIP == "" {
		return
	}
	const addressBytes = 16
	for _, app := range f.settings.Callees[e.Object.Metadata.Labels["app"]] {
		f.change(app, func(slot []byte) []byte { return append(slices.Clone(slot), make([]byte, addressBytes)...) })
	}
}

// change makes an app's HTTP slot anew, marshals the response once, and sends it to all of its streams.
func (f *floor) change(app int, edit func(slot []byte) []byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i, b := range f.settings.Apps[app][xds.ExtensionConfigType] {
		if b.Name != rbac.HTTPSlot {
			continue
		}
		value := edit(b.Value)
		if value == nil {
			return
		}
		f.version++
		f.settings.Apps[app][xds.ExtensionConfigType][i] = body{b.Name, fmt.Sprint(f.version), value}
		r := f.response(xds.ExtensionConfigType, f.settings.Apps[app][xds.ExtensionConfigType][i:i+1])
		var once *grpc.PreparedMsg
		for s := range f.streams[app] {
			if once == nil {
				once = &grpc.PreparedMsg{}
				if err := once.Encode(s, r); err != nil {
					panic(err)
				}
			}
			s.send(once)
		}
	}
}

func (s *floorStream) send(m any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	_ = s.SendMsg(m) // a stream that ended is no loss
}

func (f *floor) response(typeURL string, bodies []body) *discoveryv3.DeltaDiscoveryResponse {
	f.version++
	r := &discoveryv3.DeltaDiscoveryResponse{TypeUrl: typeURL, Nonce: fmt.Sprint(f.version)}
	for _, b := range bodies {
		r.Resources = append(r.Resources, &discoveryv3.Resource{Name: b.Name, Version: b.Version, Resource: &anypb.Any{TypeUrl: typeURL, Value: b.Value}})
	}
	return r
}

// DeltaAggregatedResources serves a sidecar.
func (f *floor) DeltaAggregatedResources(stream discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesServer) error {
	var s *floorStream
	defer func() {
		if s != nil {
			f.mu.Lock()
			defer f.mu.Unlock()
			f.count--
			delete(f.streams[s.app], s)
		}
	}()
	for {
		r, err := stream.Recv()
		if err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
		if s == nil {
			s = &floorStream{AggregatedDiscoveryService_DeltaAggregatedResourcesServer: stream, app: f.settings.Nodes[r.GetNode().GetId()]}
			f.mu.Lock()
			if f.streams[s.app] == nil {
				f.streams[s.app] = map[*floorStream]struct{}{}
			}
			f.streams[s.app][s] = struct{}{}
			f.count++
			f.mu.Unlock()
		}
		if len(r.GetResourceNamesSubscribe()) == 0 {
			continue // an ACK
		}
		if m := f.first(s.app, r); m != nil {
			s.send(m)
		}
	}
}

// first is the answer to a subscription: what the sidecar does not hold.
func (f *floor) first(app int, r *discoveryv3.DeltaDiscoveryRequest) proto.Message {
	f.mu.Lock()
	defer f.mu.Unlock()
	var want []body
	for _, b := range f.settings.Apps[app][r.GetTypeUrl()] {
		wildcard := r.GetResourceNamesSubscribe()[0] == "*"
		if (wildcard || slices.Contains(r.GetResourceNamesSubscribe(), b.Name)) && r.GetInitialResourceVersions()[b.Name] != b.Version {
			want = append(want, b)
		}
	}
	if len(want) == 0 {
		return nil
	}
	return f.response(r.GetTypeUrl(), want)
}
