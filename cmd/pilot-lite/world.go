package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/pilot-lite/pilot-lite/pkg/convert"
	"github.com/pilot-lite/pilot-lite/pkg/filesource"
	"github.com/pilot-lite/pilot-lite/pkg/kube"
	"github.com/pilot-lite/pilot-lite/pkg/model"
)

// clusterTimeout bounds reading a cluster.
const clusterTimeout = 2 * time.Minute

// worldOptions are what a command asks about: files, or a cluster.
type worldOptions struct {
	files      fileOptions
	flags      *pflag.FlagSet
	kubeconfig string
	namespace  string // the control plane's own
}

func (o *worldOptions) bind(cmd *cobra.Command) {
	o.files.bind(cmd)
	o.flags = cmd.Flags()
	cmd.Flags().StringVar(&o.kubeconfig, "kubeconfig", "", "without -f: the cluster to read (default: kubectl's)")
	cmd.Flags().StringVar(&o.namespace, "system-namespace", defaultNamespace, "without -f: the control plane's own namespace")
}

// world is what was read.
type world struct {
	snapshot *model.Snapshot
	problems []model.Diagnostic // errors, which keep objects out of the snapshot
	places   *filesource.Places // where objects stand in files; none for a cluster
}

// check refuses what would be ignored.
func (o *worldOptions) check() error {
	if len(o.files.paths) == 0 {
		return existing("--kubeconfig", o.kubeconfig)
	}
	return unused(o.flags, "with -f", "kubeconfig", "system-namespace")
}

// load reads files as they will stand in a cluster once they are applied, or a cluster as it stands.
func (o *worldOptions) load(ctx context.Context, s streams) (*world, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	if len(o.files.paths) > 0 {
		loaded, err := o.files.load(s)
		if err != nil {
			return nil, err
		}
		return &world{snapshot: convert.AsAdmitted(loaded.Snapshot), problems: loaded.Problems, places: loaded.Places}, nil
	}
	snapshot, err := o.cluster("-f").read(ctx, s)
	if err != nil {
		return nil, err
	}
	return &world{snapshot: snapshot}, nil
}

// cluster is what a command reads where no files are named.
func (o *worldOptions) cluster(files string) *clusterReading {
	return &clusterReading{kubeconfig: o.kubeconfig, namespace: o.namespace, files: files}
}

// clusterReading reads a cluster once.
type clusterReading struct {
	kubeconfig string
	namespace  string // the control plane's own
	files      string // the flag that names files instead
}

func (r *clusterReading) read(ctx context.Context, s streams) (*model.Snapshot, error) {
	clients, err := kube.Connect(r.kubeconfig, "pilot-lite/"+version)
	if err != nil {
		return nil, orFiles(err, r.files)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, clusterTimeout, fmt.Errorf("not read within %s", clusterTimeout))
	defer cancel()
	tell := func(why string) {
		fmt.Fprintf(s.err, "pilot-lite: reading the cluster at %s: %s\n", clients.REST.Host, why)
	}
	snapshot, err := kube.Load(ctx, kube.Config{Client: clients.Client, Policies: clients.Policies, Namespace: r.namespace}, tell)
	if err != nil {
		return nil, orFiles(fmt.Errorf("read the cluster at %s: %w", clients.REST.Host, err), r.files)
	}
	return snapshot, nil
}

// orFiles adds to the remedy of an error about a cluster what can be named instead.
func orFiles(err error, flag string) error {
	return failure{fmt.Errorf("%w, or name files with %s", err, flag)}
}
