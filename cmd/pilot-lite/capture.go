package main

import (
	"errors"
	"fmt"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/pilot-lite/pilot-lite/pkg/capture"
)

func newCaptureCmd(s streams) *cobra.Command {
	var excluded []string
	var dryRun, verify bool
	cmd := &cobra.Command{
		Use:   "capture",
		Short: "Redirect this network namespace's inbound TCP to the sidecar (the injected init container)",
		Long: `Makes the kernel hand the TCP connections that come into this network namespace, over IPv4 and IPv6, to the sidecar's port 15006, and reset those
that would go around it. It replaces the nftables table inet pilot_lite, in one transaction, reads it back, and touches nothing else. It needs the
capability NET_ADMIN, and never runs on a node: only in a pod's network namespace. The rules stay when it ends.`,
		Example: `  pilot-lite capture --exclude-inbound-ports 9090,9091
  pilot-lite capture --dry-run
  pilot-lite capture --verify`,
		Args: takesNothing(flagsAlone),
		RunE: func(*cobra.Command, []string) error {
			if dryRun && verify {
				return errors.New("--dry-run and --verify exclude each other")
			}
			c := capture.Config{}
			for _, written := range excluded {
				port, err := strconv.ParseUint(written, 10, 16)
				if err != nil || port == 0 {
					return fmt.Errorf("--exclude-inbound-ports %q: write numbers from 1 to 65535, such as 9090,9091", written)
				}
				c.ExcludedInbound = append(c.ExcludedInbound, uint16(port))
			}
			rules, err := capture.Ruleset(c)
			if err != nil {
				return err
			}
			switch {
			case dryRun:
				_, err = fmt.Fprint(s.out, rules)
			case verify:
				err = capture.Verify(c)
			default:
				err = capture.Apply(c)
			}
			if err != nil {
				return failure{err}
			}
			return nil
		},
	}
	f := cmd.Flags()
	f.StringSliceVar(&excluded, "exclude-inbound-ports", nil, "`ports` whose callers reach the application directly, past every policy of the sidecar")
	f.BoolVar(&dryRun, "dry-run", false, "print the rules, as nft would, and change nothing")
	f.BoolVar(&verify, "verify", false, "check that the rules are in force, and change nothing")
	return cmd
}
