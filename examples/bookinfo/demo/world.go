package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/pilot-lite/pilot-lite/examples/bookinfo"
	"github.com/pilot-lite/pilot-lite/examples/bookinfo/graph"
	"github.com/pilot-lite/pilot-lite/pkg/crd/v1alpha1"
	"github.com/pilot-lite/pilot-lite/pkg/model"
)

const (
	namespace = "bookinfo"
	outsider  = graph.Outsider // a caller whom nobody knows
	// A privileged port is answered at a socket so many ports higher; the application stands behind the sidecar, higher again.
	unprivilegedOffset = 8000
	applicationOffset  = 10000
	firstAddress       = 10 // in the block; the outsider has the last
	outsiderAddress    = 99
	blockTries         = 50
)

// workload is one Deployment of the example with its one pod.
type workload struct {
	name       string // that of the Deployment and of the pod
	app        string
	address    netip.Addr
	deployment *appsv1.Deployment
	args       []string // of the application
	sidecar    *process
}

// world is everything that the demo runs.
type world struct {
	dir        string // temporary; the YAML is in dir/yaml
	block      netip.Prefix
	workloads  []*workload
	outsider   netip.Addr
	processes  []*process
	control    *process
	pilotLite  string // binary
	xds, admin string // sockets
}

func newWorld() (_ *world, err error) {
	parent := os.TempDir()
	if len(parent) > 40 {
		parent = "/tmp" // the path of a UNIX socket has at most 107 bytes
	}
	dir, err := os.MkdirTemp(parent, "bookinfo-")
	if err != nil {
		return nil, fmt.Errorf("make a folder: %w", err)
	}
	w := &world{dir: dir, xds: filepath.Join(dir, "xds"), admin: filepath.Join(dir, "admin"), pilotLite: filepath.Join(dir, "bin", "pilot-lite")}
	defer func() {
		if err != nil {
			err = errors.Join(err, w.close())
		}
	}()
	for _, folder := range []string{"bin", "log", "yaml"} {
		if err := os.Mkdir(filepath.Join(dir, folder), 0o700); err != nil {
			return nil, fmt.Errorf("make a folder: %w", err)
		}
	}
	if err := os.CopyFS(filepath.Join(dir, "yaml"), bookinfo.Files); err != nil {
		return nil, fmt.Errorf("copy the example: %w", err)
	}
	if err := w.readDeployments(); err != nil {
		return nil, err
	}
	if err := w.findAddresses(); err != nil {
		return nil, err
	}
	return w, w.writePods()
}

func (w *world) close() error {
	stopAll(w.processes)
	if err := os.RemoveAll(w.dir); err != nil {
		return fmt.Errorf("clean up: %w", err)
	}
	return nil
}

// readDeployments takes the workloads from the example's own YAML.
func (w *world) readDeployments() error {
	files, err := fs.Glob(bookinfo.Files, "platform/*.yaml")
	if err != nil {
		return fmt.Errorf("read the example: %w", err)
	}
	for _, file := range files {
		text, err := fs.ReadFile(bookinfo.Files, file)
		if err != nil {
			return fmt.Errorf("read the example: %w", err)
		}
		for _, document := range splitYAML(text) {
			var d appsv1.Deployment
			if err := yaml.Unmarshal(document, &d); err != nil {
				return fmt.Errorf("read %s: %w", file, err)
			}
			if d.Kind == "Deployment" {
				w.workloads = append(w.workloads, &workload{name: d.Name, app: d.Labels["app"], deployment: &d, args: d.Spec.Template.Spec.Containers[0].Args})
			}
		}
	}
	order := []string{"ingress", "productpage", "details", "reviews", "ratings"} // as a request goes
	slices.SortStableFunc(w.workloads, func(a, b *workload) int { return slices.Index(order, a.app) - slices.Index(order, b.app) })
	return nil
}

// findAddresses looks for a block of loopback addresses on which every socket is free.
func (w *world) findAddresses() error {
	var err error
	for range blockTries {
		block := [4]byte{127, byte(16 + rand.IntN(200)), byte(rand.IntN(256)), 0}
		w.block = netip.PrefixFrom(netip.AddrFrom4(block), 24)
		for i, each := range w.workloads {
			each.address = host(w.block, firstAddress+i)
		}
		w.outsider = host(w.block, outsiderAddress)
		if err = w.allFree(); err == nil {
			return nil
		}
	}
	return fmt.Errorf("no free loopback addresses: %w", err)
}

func host(block netip.Prefix, n int) netip.Addr {
	a := block.Addr().As4()
	a[3] = byte(n)
	return netip.AddrFrom4(a)
}

func (w *world) allFree() error {
	for _, each := range w.workloads {
		for _, p := range each.ports() {
			for _, a := range []netip.AddrPort{each.listen(p), each.application(p)} {
				l, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", a.String())
				if err != nil {
					return err
				}
				if err := l.Close(); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// ports are those that the pod's container declares.
func (w *workload) ports() []uint16 {
	var out []uint16
	for _, p := range w.deployment.Spec.Template.Spec.Containers[0].Ports {
		out = append(out, uint16(p.ContainerPort))
	}
	return out
}

// listen is where the sidecar answers for a port of the pod.
func (w *workload) listen(port uint16) netip.AddrPort {
	if port < 1024 {
		port += unprivilegedOffset
	}
	return netip.AddrPortFrom(w.address, port)
}

// application is where the application itself answers for a port of the pod.
func (w *workload) application(port uint16) netip.AddrPort {
	return netip.AddrPortFrom(w.address, w.listen(port).Port()+applicationOffset)
}

// writePods writes what a cluster and the injector add to the example: pods with their addresses, and where their sidecars listen.
func (w *world) writePods() error {
	var text []byte
	for _, each := range w.workloads {
		document, err := yaml.Marshal(each.pod())
		if err != nil {
			return fmt.Errorf("write the pods: %w", err)
		}
		text = append(append(text, "---\n"...), document...)
	}
	if err := os.WriteFile(filepath.Join(w.dir, "yaml", "pods.yaml"), text, 0o600); err != nil {
		return fmt.Errorf("write the pods: %w", err)
	}
	return nil
}

func (w *workload) pod() *corev1.Pod {
	template := w.deployment.Spec.Template.DeepCopy()
	controller := true
	p := &corev1.Pod{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"},
		ObjectMeta: metav1.ObjectMeta{
			Namespace: namespace, Name: w.name, Labels: template.Labels, UID: "",
			OwnerReferences: []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: "Deployment", Name: w.name, UID: "demo", Controller: &controller}},
		},
		Spec: template.Spec,
		Status: corev1.PodStatus{
			Phase: corev1.PodRunning, PodIP: w.address.String(), PodIPs: []corev1.PodIP{{IP: w.address.String()}},
		},
	}
	p.Spec.NodeName = "localhost"
	p.Labels[v1alpha1.LabelProxy] = v1alpha1.ProxyInjected
	p.Labels[v1alpha1.LabelServiceAccount] = model.ServiceAccountLabel(p.Spec.ServiceAccountName)
	type bound struct {
		Port        uint16 `json:"port"`
		Listen      string `json:"listen"`
		Application string `json:"application"`
	}
	var all []bound
	for _, port := range w.ports() {
		all = append(all, bound{port, w.listen(port).String(), w.application(port).String()})
	}
	text, _ := json.Marshal(all) // numbers and strings only
	p.Annotations = map[string]string{v1alpha1.AnnotationBound: string(text)}
	return p
}

// applicationArgs are the Deployment's own, and behind them what differs on one machine: sockets, and the other services' addresses in place of
// their names.
func (w *world) applicationArgs(each *workload) []string {
	base := func(app string) string {
		var out string
		for _, other := range w.workloads {
			if other.app == app {
				if out != "" {
					out += ","
				}
				out += "http://" + other.listen(9080).String()
			}
		}
		return out
	}
	args := append(slices.Clone(each.args),
		"--source-address="+each.address.String(), "--productpage="+base("productpage"), "--details="+base("details"),
		"--reviews="+base("reviews"), "--ratings="+base("ratings"))
	flags := map[string]string{"http": "--listen=", "https": "--tls-listen=", "admin": "--admin-listen="}
	for _, p := range each.deployment.Spec.Template.Spec.Containers[0].Ports {
		args = append(args, flags[p.Name]+each.application(uint16(p.ContainerPort)).String())
	}
	return args
}

// named returns a workload by its name.
func (w *world) named(name string) (*workload, error) {
	for _, each := range w.workloads {
		if each.name == name {
			return each, nil
		}
	}
	return nil, errors.New("no workload " + strconv.Quote(name) + " in the example")
}

// addressOf is where a caller's connections come from.
func (w *world) addressOf(caller string) netip.Addr {
	if each, err := w.named(caller); err == nil {
		return each.address
	}
	return w.outsider
}
