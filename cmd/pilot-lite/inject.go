package main

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"

	"github.com/spf13/cobra"
	"sigs.k8s.io/yaml"

	"github.com/pilot-lite/pilot-lite/pkg/filesource"
	"github.com/pilot-lite/pilot-lite/pkg/inject"
	"github.com/pilot-lite/pilot-lite/pkg/model"
)

type injectOptions struct {
	files                   fileOptions
	settings                injectionSettings
	authorityFile, meshFile string
}

func newInjectCmd(s streams) *cobra.Command {
	var o injectOptions
	cmd := &cobra.Command{
		Use:   "inject -f FILE... --image IMAGE --sidecar-image IMAGE --ca FILE",
		Short: "Print objects with sidecars in their pods, as the webhook puts them in",
		Long: `Reads the YAML that kubectl apply takes, puts the sidecar into each pod (of Pods, Deployments, StatefulSets, DaemonSets, ReplicaSets, Jobs, CronJobs, and Lists
of them), and prints all of it. Other objects are printed as they are. What has its sidecar already is given it anew, so that injecting twice is injecting once.

A pod that must not run as it is written is refused, with the field and the remedy, on standard error. Then nothing is printed, and the exit code is 1.

In a cluster with the control plane the webhook does the same to every pod of a namespace with injection, and to what this command prints. What the control plane
knows is given here by flags; its certificate authority is what the API server trusts it by:

  kubectl get mutatingwebhookconfiguration pilot-lite -o jsonpath='{.webhooks[0].clientConfig.caBundle}' | base64 -d > ca.pem`,
		Example: `  pilot-lite inject -f deployment.yaml --image registry.example/pilot-lite:1 --sidecar-image envoyproxy/envoy:distroless-v1.40.0 --ca ca.pem | kubectl apply -f -`,
		Args:    takesNothing(nameFiles),
		RunE:    func(*cobra.Command, []string) error { return o.run(s) },
	}
	o.files.bind(cmd)
	f := cmd.Flags()
	f.StringVar(&o.settings.image, "image", "", "this program's image, for the init container that captures (required)")
	f.StringVar(&o.settings.sidecarImage, "sidecar-image", "", "Envoy's image (required)")
	f.StringVar(&o.authorityFile, "ca", "", "PEM file of the control plane's authorities (required)")
	f.StringVar(&o.settings.namespace, "system-namespace", defaultNamespace, "the control plane's own namespace")
	alias(cmd, "namespace", "system-namespace")
	f.BoolVar(&o.settings.ipv6, "ipv6", false, "pods' first addresses are IPv6")
	f.StringVar(&o.meshFile, "mesh-config", "", "file with the MeshConfig, or the ConfigMap that holds it: says which pods may opt out")
	return cmd
}

func (o *injectOptions) run(s streams) error {
	if err := o.check(); err != nil {
		return err
	}
	documents, err := filesource.Documents(o.files.paths, s.in)
	if err != nil {
		return failure{err}
	}
	problems, err := o.complete()
	if err != nil {
		return err
	}
	out, found := injectAll(documents, injectionConfig(o.settings))
	bad, err := printDiagnostics(s.err, append(problems, found...))
	switch {
	case err != nil:
		return failure{err}
	case bad:
		return errFinding
	}
	if _, err = s.out.Write(out); err != nil {
		return failure{err}
	}
	return nil
}

func (o *injectOptions) check() error {
	switch {
	case len(o.files.paths) == 0:
		return errNoFiles
	case o.settings.image == "" || o.settings.sidecarImage == "":
		return errors.New("no images: name them with --image and --sidecar-image, as ConfigMap pilot-lite-images does")
	case o.authorityFile == "":
		return errors.New("no authority: name its file with --ca")
	}
	return cmp.Or(inputs(input{"-f", o.files.paths}), existing("--ca", o.authorityFile), existing("--mesh-config", o.meshFile))
}

// complete reads what the control plane knows. Settings with an error are not used.
func (o *injectOptions) complete() (problems []model.Diagnostic, err error) {
	if o.settings.authority, err = readAuthority(o.authorityFile); err != nil {
		return nil, err
	}
	if o.meshFile == "" {
		return nil, nil
	}
	loaded, err := readMeshConfig(o.meshFile)
	if err != nil {
		return nil, err
	}
	o.settings.optOut = loaded.Snapshot.Mesh.OptOutNamespaces
	return loaded.Problems, nil
}

// readMeshConfig reads the file that --mesh-config names. One that is whole and has no MeshConfig would be taken for the defaults.
func readMeshConfig(path string) (*filesource.Result, error) {
	if path == "-" {
		return nil, errors.New("--mesh-config -: standard input is for objects; name a file")
	}
	loaded, err := filesource.Load([]string{path}, nil)
	switch {
	case err != nil:
		return nil, failure{fmt.Errorf("--mesh-config: %w", err)}
	case len(loaded.Problems) == 0 && loaded.MeshFrom == "":
		return nil, fmt.Errorf("--mesh-config %s: it holds no MeshConfig, nor a ConfigMap pilot-lite with one: name the file that does", path)
	}
	return loaded, nil
}

// injectAll puts the sidecars into all documents. What is not changed stays as it was written, to the letter. With an error among the findings the text is not to be used.
func injectAll(documents []filesource.Document, c inject.Config) ([]byte, []model.Diagnostic) {
	var out bytes.Buffer
	var all []model.Diagnostic
	for i := range documents {
		d := &documents[i]
		text := d.Text
		if d.JSON != nil {
			rewritten, found := inject.Object(d.JSON, c)
			if rewritten != nil {
				found = append(found, rewritten.Notices...)
			}
			for j := range found {
				found[j].Object.Source = d.At(found[j].Field)
			}
			all = append(all, found...)
			if rewritten != nil && rewritten.JSON != nil {
				var err error
				if text, err = yaml.JSONToYAML(rewritten.JSON); err != nil {
					all = append(all, unwritable(d, err))
				}
			}
		}
		write(&out, text)
	}
	return out.Bytes(), all
}

func unwritable(d *filesource.Document, err error) model.Diagnostic {
	return model.Diagnostic{
		Code: "unwritable", Severity: model.SeverityError, Object: model.ObjectRef{Kind: "File", Name: d.Source, Source: d.Source},
		Consequence: "the object with its sidecar cannot be written as YAML: " + err.Error(), Remedy: "write the object as JSON or YAML that kubectl takes",
	}
}

// write adds a document, after a separator where it does not begin with one.
func write(out *bytes.Buffer, text []byte) {
	if len(bytes.TrimSpace(text)) == 0 {
		return
	}
	if out.Len() > 0 && !bytes.HasPrefix(text, []byte("---")) {
		out.WriteString("---\n")
	}
	out.Write(text)
	if text[len(text)-1] != '\n' {
		out.WriteByte('\n')
	}
}
