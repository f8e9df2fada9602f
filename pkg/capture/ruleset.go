//go:build linux

package capture

import (
	"fmt"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/pilot-lite/pilot-lite/pkg/model"
)

// chain is one base chain, in nftables' own language and as the kernel takes it.
type chain struct {
	name, head string
	kind       nftables.ChainType
	hook       nftables.ChainHook
	priority   nftables.ChainPriority
	rules      []rule
}

type rule struct {
	text  string
	exprs []expr.Any
}

// chains redirect what comes in for the pod itself, and reset what would reach it otherwise.
//
// Only an address of the interface that a packet came in by is redirected: a neighbour on the link can send any destination, and the sidecar dials
// the destination, so 127.0.0.1 and others' addresses must not get that far. The second chain looks at first packets only: the pod's own outbound
// connections may have any port.
func chains(excluded []uint16) []chain {
	var direct []rule
	for _, p := range excluded {
		direct = append(direct, rule{fmt.Sprintf("tcp dport %d accept", p), join(tcpPort(p), accept())})
	}
	capture := []rule{
		{"meta iiftype loopback accept", join(fromLoopback(), accept())},
		{
			fmt.Sprintf("tcp dport %d-%d accept", model.ReservedFirst, model.ReservedLast),
			join(tcpPorts(model.ReservedFirst, model.ReservedLast), accept()),
		},
	}
	capture = append(capture, direct...)
	capture = append(
		capture,
		rule{"fib daddr . iif type != local accept", join(notOurAddress(), accept())},
		rule{fmt.Sprintf("meta l4proto tcp redirect to :%d", model.InboundPort), join(isTCP(), redirect(model.InboundPort))},
	)
	guard := []rule{
		{"meta iiftype loopback accept", join(fromLoopback(), accept())},
		{fmt.Sprintf("tcp dport %d accept", model.HealthPort), join(tcpPort(model.HealthPort), accept())},
		{fmt.Sprintf("tcp dport %d accept", model.MetricsPort), join(tcpPort(model.MetricsPort), accept())},
	}
	guard = append(guard, direct...)
	guard = append(
		guard,
		rule{fmt.Sprintf("tcp dport %d ct status dnat accept", model.InboundPort), join(tcpPort(model.InboundPort), isRedirected(), accept())},
		rule{"tcp flags syn / fin,syn,rst,ack reject with tcp reset", join(isTCP(), isFirst(), reset())},
	)
	return []chain{
		{
			"capture", "type nat hook prerouting priority dstnat; policy accept;",
			nftables.ChainTypeNAT, *nftables.ChainHookPrerouting, *nftables.ChainPriorityNATDest, capture,
		},
		{
			"guard", "type filter hook input priority filter; policy accept;",
			nftables.ChainTypeFilter, *nftables.ChainHookInput, *nftables.ChainPriorityFilter, guard,
		},
	}
}

// Ruleset is the table in nftables' language, as `nft list table inet pilot_lite` prints it.
func Ruleset(c Config) (string, error) {
	excluded, err := c.excluded()
	if err != nil {
		return "", fmt.Errorf("capture: %w", err)
	}
	var b strings.Builder
	b.WriteString("table inet " + tableName + " {\n")
	for i, chain := range chains(excluded) {
		if i > 0 {
			b.WriteString("\n")
		}
		b.WriteString("\tchain " + chain.name + " {\n\t\t" + chain.head + "\n")
		for _, r := range chain.rules {
			b.WriteString("\t\t" + r.text + "\n")
		}
		b.WriteString("\t}\n")
	}
	b.WriteString("}\n")
	return b.String(), nil
}

// register is where an expression leaves its value for the next one.
const register = 1

func join(parts ...[]expr.Any) []expr.Any {
	var out []expr.Any
	for _, p := range parts {
		out = append(out, p...)
	}
	return out
}

func accept() []expr.Any { return []expr.Any{&expr.Verdict{Kind: expr.VerdictAccept}} }

// reset ends the caller's attempt at once, as a closed port does.
func reset() []expr.Any { return []expr.Any{&expr.Reject{Type: unix.NFT_REJECT_TCP_RST}} }

func fromLoopback() []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyIIFTYPE, Register: register},
		&expr.Cmp{Op: expr.CmpOpEq, Register: register, Data: binaryutil.NativeEndian.PutUint16(unix.ARPHRD_LOOPBACK)},
	}
}

func isTCP() []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: register},
		&expr.Cmp{Op: expr.CmpOpEq, Register: register, Data: []byte{unix.IPPROTO_TCP}},
	}
}

// Offsets in the TCP header (RFC 9293), and its flags.
const (
	destinationPortAt    = 2
	flagsAt              = 13
	fin, syn, rst, ack   = 0x01, 0x02, 0x04, 0x10
	destinationPortBytes = 2
)

func loadPort() []expr.Any {
	return join(isTCP(), []expr.Any{
		&expr.Payload{DestRegister: register, Base: expr.PayloadBaseTransportHeader, Offset: destinationPortAt, Len: destinationPortBytes},
	})
}

func tcpPort(port uint16) []expr.Any {
	return join(loadPort(), []expr.Any{&expr.Cmp{Op: expr.CmpOpEq, Register: register, Data: binaryutil.BigEndian.PutUint16(port)}})
}

func tcpPorts(first, last uint16) []expr.Any {
	return join(loadPort(), []expr.Any{
		&expr.Cmp{Op: expr.CmpOpGte, Register: register, Data: binaryutil.BigEndian.PutUint16(first)},
		&expr.Cmp{Op: expr.CmpOpLte, Register: register, Data: binaryutil.BigEndian.PutUint16(last)},
	})
}

func notOurAddress() []expr.Any {
	return []expr.Any{
		&expr.Fib{Register: register, ResultADDRTYPE: true, FlagDADDR: true, FlagIIF: true},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: register, Data: binaryutil.NativeEndian.PutUint32(unix.RTN_LOCAL)},
	}
}

func redirect(port uint16) []expr.Any {
	return []expr.Any{
		&expr.Immediate{Register: register, Data: binaryutil.BigEndian.PutUint16(port)},
		&expr.Redir{RegisterProtoMin: register, RegisterProtoMax: register, Flags: unix.NF_NAT_RANGE_PROTO_SPECIFIED},
	}
}

// isRedirected holds for every packet of a connection whose destination was rewritten (IPS_DST_NAT).
func isRedirected() []expr.Any {
	const destinationRewritten = 1 << 5
	return []expr.Any{
		&expr.Ct{Key: expr.CtKeySTATUS, Register: register},
		&expr.Bitwise{
			SourceRegister: register, DestRegister: register, Len: 4,
			Mask: binaryutil.NativeEndian.PutUint32(destinationRewritten), Xor: binaryutil.NativeEndian.PutUint32(0),
		},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: register, Data: binaryutil.NativeEndian.PutUint32(0)},
	}
}

// isFirst holds for the packet that opens a connection.
func isFirst() []expr.Any {
	return []expr.Any{
		&expr.Payload{DestRegister: register, Base: expr.PayloadBaseTransportHeader, Offset: flagsAt, Len: 1},
		&expr.Bitwise{SourceRegister: register, DestRegister: register, Len: 1, Mask: []byte{fin | syn | rst | ack}, Xor: []byte{0}},
		&expr.Cmp{Op: expr.CmpOpEq, Register: register, Data: []byte{syn}},
	}
}
