// Package status says how far each policy is in force. Input: the policies of a snapshot with the pods that they select, what proxies run, and how companions stand,
// each as it changes. Output: the status of each policy that one of them changed. Pure: time is an argument. One entry point: Tracker.
package status

import (
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/pilot-lite/pilot-lite/pkg/crd/v1alpha1"
	"github.com/pilot-lite/pilot-lite/pkg/model"
)

const (
	// LostGrace is how long a proxy whose stream ended counts as running what it ran: it comes back to another replica within it.
	LostGrace = 10 * time.Second
	// BehindGrace is how long a proxy may take for content that is news to another policy before this one's condition tells of it.
	BehindGrace = 5 * time.Second
)

// Proxy is what is known of one proxy. It is not changed after it was told.
type Proxy struct {
	Node, UID string // "NAMESPACE/POD", and the pod's
	Connected bool
	Since     time.Time // connected, or not connected any more; zero where it never was, as far as anybody knows
	Problem   string    // why it was turned away as it came last
	// Policies are those that it should run, by UID. Proxies that run the same share the list.
	Policies []Standing
	Gone     bool // nothing is known of it any more
}

// Standing is one policy at one proxy, over all its slots.
type Standing struct {
	Policy  string // its UID
	Running int64  // the oldest generation that runs in a slot, or ran as it was connected last; 0 where one does not run it at all
	Current bool   // every slot runs its present content
	Refused string // the proxy's words, where it refused a slot's present content
}

// Policy is a policy of the present snapshot.
type Policy struct {
	Ref      model.PolicyRef
	DryRun   bool
	Ingress  bool // proxies decide for it: one that governs egress alone has companions only
	Selected []*model.Workload
	Problems []model.Diagnostic // parts that are not understood
}

// Companions is how a policy's companions stand.
type Companions struct {
	Stand      bool
	Generation int64  // that they were made from
	Message    string // why they do not stand
}

// Agreement is what the evaluator says of a policy's two layers. The zero value: it was not asked.
type Agreement struct {
	Status          metav1.ConditionStatus
	Reason, Message string
}

// Result is the status of a policy. Its conditions have no time of transition.
type Result struct {
	Ref    model.PolicyRef
	Status v1alpha1.L7PolicyStatus
}
