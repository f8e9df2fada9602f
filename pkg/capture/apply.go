//go:build linux

package capture

import (
	"errors"
	"fmt"
	"io/fs"
	"reflect"
	"time"

	"github.com/google/nftables"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// kernelTimeout bounds the talk with the kernel: it answers at once, or something is very wrong.
const kernelTimeout = 10 * time.Second

// Apply puts the table in place of the one that was there, in one transaction, and verifies it. Applied twice it is the same table. After an error
// nothing may be assumed: the pod must not start.
func Apply(c Config) error {
	excluded, err := c.excluded()
	if err != nil {
		return fmt.Errorf("capture: %w", err)
	}
	conn, err := open()
	if err != nil {
		return fmt.Errorf("capture: %w", err)
	}
	table := &nftables.Table{Name: tableName, Family: nftables.TableFamilyINet}
	// The first makes the second possible where there is no table yet.
	conn.AddTable(table)
	conn.DelTable(table)
	conn.AddTable(table)
	for _, want := range chains(excluded) {
		made := conn.AddChain(&nftables.Chain{
			Name: want.name, Table: table, Type: want.kind, Hooknum: &want.hook, Priority: &want.priority, Policy: new(nftables.ChainPolicyAccept),
		})
		for _, r := range want.rules {
			conn.AddRule(&nftables.Rule{Table: table, Chain: made, Exprs: r.exprs})
		}
	}
	if err := conn.Flush(); err != nil {
		return fmt.Errorf("capture: write the rules: %w", explain(err))
	}
	return Verify(c)
}

// Verify reads the table back and says where it differs from what Apply writes.
func Verify(c Config) error {
	excluded, err := c.excluded()
	if err != nil {
		return fmt.Errorf("capture: %w", err)
	}
	conn, err := open()
	if err != nil {
		return fmt.Errorf("capture: %w", err)
	}
	table := &nftables.Table{Name: tableName, Family: nftables.TableFamilyINet}
	all, err := conn.ListChainsOfTableFamily(nftables.TableFamilyINet)
	if err != nil {
		return fmt.Errorf("capture: read the chains: %w", explain(err))
	}
	found := map[string]*nftables.Chain{}
	for _, f := range all {
		if f.Table.Name == tableName {
			found[f.Name] = f
		}
	}
	wanted := chains(excluded)
	if len(found) != len(wanted) {
		return fmt.Errorf("capture: table inet %s has %d chains, not %d: run `pilot-lite capture` again", tableName, len(found), len(wanted))
	}
	for _, want := range wanted {
		if err := want.verify(conn, table, found[want.name]); err != nil {
			return fmt.Errorf("capture: chain %s of table inet %s: %w: run `pilot-lite capture` again", want.name, tableName, err)
		}
	}
	return nil
}

func (want chain) verify(conn *nftables.Conn, table *nftables.Table, got *nftables.Chain) error {
	switch {
	case got == nil:
		return errors.New("it is not there")
	case got.Type != want.kind || got.Hooknum == nil || *got.Hooknum != want.hook || got.Priority == nil || *got.Priority != want.priority:
		return fmt.Errorf("it does not stand at %q", want.head)
	case got.Policy == nil || *got.Policy != nftables.ChainPolicyAccept:
		return errors.New("its policy is not accept")
	}
	rules, err := conn.GetRules(table, got)
	if err != nil {
		return fmt.Errorf("read its rules: %w", explain(err))
	}
	if len(rules) != len(want.rules) {
		return fmt.Errorf("it has %d rules, not %d", len(rules), len(want.rules))
	}
	for i, r := range want.rules {
		if !reflect.DeepEqual(rules[i].Exprs, r.exprs) {
			return fmt.Errorf("rule %d is not %q", i+1, r.text)
		}
	}
	return nil
}

func open() (*nftables.Conn, error) {
	conn, err := nftables.New(nftables.WithSockOptions(func(c *netlink.Conn) error { return c.SetDeadline(time.Now().Add(kernelTimeout)) }))
	if err != nil {
		return nil, explain(err)
	}
	return conn, nil
}

// explain adds what the kernel's one word means here.
func explain(err error) error {
	switch {
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%w: the container needs the capability NET_ADMIN and user 0", err)
	case errors.Is(err, unix.EPROTONOSUPPORT), errors.Is(err, unix.EAFNOSUPPORT), errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%w: the node's kernel needs nf_tables with nft_nat, nft_redir, nft_ct, nft_reject and nft_fib for the family inet (Linux 5.2)", err)
	}
	return err
}
