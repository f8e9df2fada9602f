package main

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/spf13/cobra"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/pilot-lite/pilot-lite/pkg/convert"
	"github.com/pilot-lite/pilot-lite/pkg/model"
	"github.com/pilot-lite/pilot-lite/pkg/translate"
	"github.com/pilot-lite/pilot-lite/pkg/xds/protoyaml"
)

type translateOptions struct {
	files      fileOptions
	format     string
	companions bool
	envoy      bool
}

func newTranslateCmd(s streams) *cobra.Command {
	var o translateOptions
	cmd := &cobra.Command{
		Use:   "translate -f FILE... [WORKLOAD]",
		Short: "Print the Envoy resources and companion NetworkPolicies that policies make",
		Long: `Prints what the control plane would serve and apply: the listeners, clusters and slots of every workload, or of the named one (NAMESPACE/NAME or NAME),
and the companion NetworkPolicies. Companions that a DryRun policy would get are marked. Findings go to standard error; exit code 1 when a file is bad.

Pods of files that do not run yet are taken as the injector will make them, with addresses of 198.18.0.0/15 that stand for those that they will get.`,
		Example: "  pilot-lite translate -f policies/ -f platform/ bookinfo/reviews-v1\n  pilot-lite translate -f policies/ -f platform/ --companions | kubectl diff -f -",
		Args:    takes(1, "one workload, as NAMESPACE/NAME or NAME"),
		RunE: func(_ *cobra.Command, args []string) error {
			workload := ""
			if len(args) == 1 {
				workload = args[0]
			}
			return o.run(s, workload)
		},
	}
	o.files.bind(cmd)
	cmd.Flags().StringVarP(&o.format, "output", "o", string(formatYAML), "yaml or json")
	cmd.Flags().BoolVar(&o.companions, "companions", false, "print the companion NetworkPolicies only")
	cmd.Flags().BoolVar(&o.envoy, "envoy", false, "print the Envoy resources only")
	return cmd
}

func (o *translateOptions) run(s streams, name string) error {
	if err := o.check(name); err != nil {
		return err
	}
	loaded, err := o.files.load(s)
	if err != nil {
		return err
	}
	index := model.NewIndex(convert.AsAdmitted(loaded.Snapshot))
	output := translate.Translate(index)
	p, unknown := o.selected(output, name)
	if unknown == nil {
		if err := p.print(s, outputFormat(o.format)); err != nil {
			return failure{err}
		}
	}
	// What is wrong with a file may be why a workload is not known.
	bad, err := printDiagnostics(s.err, append(loaded.Problems, loaded.Places.Locate(withoutVoid(index, output.Diagnostics))...))
	switch {
	case err != nil:
		return failure{err}
	case bad:
		return errFinding
	}
	return unknown
}

func (o *translateOptions) check(name string) error {
	switch {
	case o.companions && o.envoy:
		return errors.New("--companions and --envoy: each leaves out the other; choose one, or neither for both")
	case o.companions && name != "":
		return fmt.Errorf("--companions and workload %q: companions are a policy's, not a workload's; leave one out", name)
	}
	return outputFormat(o.format).check(formatYAML, formatJSON)
}

// printable is what is printed, as JSON.
type printable struct {
	Workloads       []printableWorkload          `json:"workloads,omitempty"`
	NetworkPolicies []networkingv1.NetworkPolicy `json:"networkPolicies,omitempty"`
}

type printableWorkload struct {
	Name      string            `json:"name"` // NAMESPACE/NAME
	Key       string            `json:"key"`
	Resources []json.RawMessage `json:"resources"`
}

// dryRunAnnotation marks a companion that would stand if its policy were enforced.
const dryRunAnnotation = "policy.pilot-lite.io/dry-run"

// selected picks what the options ask for.
func (o *translateOptions) selected(output *translate.Output, name string) (*printable, error) {
	p := &printable{}
	if !o.companions {
		for _, w := range output.Workloads {
			full := w.Workload.Namespace + "/" + w.Workload.Name
			if name != "" && name != full && name != w.Workload.Name {
				continue
			}
			pw := printableWorkload{Name: full, Key: w.Workload.Key}
			for _, r := range w.Resources {
				text, err := protoyaml.MarshalJSON(r.Message)
				if err != nil {
					return nil, failure{err}
				}
				pw.Resources = append(pw.Resources, text)
			}
			p.Workloads = append(p.Workloads, pw)
		}
		if name != "" && len(p.Workloads) == 0 {
			return nil, fmt.Errorf("no workload %q: name one that the files hold, as NAMESPACE/NAME or NAME; files with policies alone hold none", name)
		}
	}
	if o.envoy || name != "" {
		return p, nil
	}
	for _, c := range output.Companions {
		np := c.NetworkPolicy.DeepCopy()
		np.TypeMeta = metav1.TypeMeta{APIVersion: networkingv1.SchemeGroupVersion.String(), Kind: "NetworkPolicy"}
		if c.DryRun {
			metav1.SetMetaDataAnnotation(&np.ObjectMeta, dryRunAnnotation, "true")
		}
		p.NetworkPolicies = append(p.NetworkPolicies, *np)
	}
	return p, nil
}

func (p *printable) print(s streams, format outputFormat) error {
	if format == formatJSON {
		return printJSON(s.out, p)
	}
	for _, w := range p.Workloads {
		for _, r := range w.Resources {
			text, err := yaml.JSONToYAML(r)
			if err != nil {
				return fmt.Errorf("print %s: %w", w.Name, err)
			}
			if _, err := fmt.Fprintf(s.out, "---\n# workload %s\n%s", w.Name, text); err != nil {
				return err
			}
		}
	}
	for i := range p.NetworkPolicies {
		text, err := yaml.Marshal(&p.NetworkPolicies[i])
		if err != nil {
			return fmt.Errorf("print %s: %w", p.NetworkPolicies[i].Name, err)
		}
		if _, err := fmt.Fprintf(s.out, "---\n%s", text); err != nil {
			return err
		}
	}
	return nil
}
