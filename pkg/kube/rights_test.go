package kube_test

import (
	"fmt"
	"slices"
	"testing"

	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/pilot-lite/pilot-lite/internal/apitest"
)

// rights: a kind that may not be read is waited for and named, and nothing is known meanwhile. One that may not be read any more stays as it was.
func (c *cluster) rights(t *testing.T) {
	t.Parallel()
	for _, kind := range kinds() {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			user := "without-" + kind
			grant := c.without(t, user, kind)
			v := c.viewBy(t, c.User(user), staleAfter)
			v.says(t, "kind="+kind, "level=ERROR", "grant list and watch")
			apitest.Eventually(t, patience, "all others are read", func() error {
				if w := v.Waiting(); len(w) != 1 || w[0] != kind {
					return fmt.Errorf("waiting for %v", w)
				}
				return nil
			})
			if _, complete := v.Snapshot(); complete {
				t.Error("a snapshot without a kind")
			}
			if _, known := v.Mesh(); known {
				t.Error("settings before everything was read")
			}
			grant("list", "watch")
			s := c.story(t, user)
			v.tells(t, "once it may be read", s)
			before := *s
			grant()
			v.stale(t, "when it may not be read any more", kind)
			if err := v.told(&before); err != nil {
				t.Errorf("what was read last does not stay: %v", err)
			}
			grant("list", "watch")
			s.next(t)
			v.tells(t, "once it may be read again", s)
			v.stale(t, "in the end")
		})
	}
}

// without makes a user with the manifests' rights but for those on one kind, and returns what gives them verbs on it, in place of those given before.
func (c *cluster) without(t *testing.T, user, kind string) (grant func(verbs ...string)) {
	t.Helper()
	role, err := c.RbacV1().ClusterRoles().Get(t.Context(), "pilot-lite", metav1.GetOptions{})
	rules := must(t, role, err).Rules
	for i := range rules {
		rules[i].Resources = slices.DeleteFunc(rules[i].Resources, func(r string) bool { return r == kind })
	}
	c.role(t, user, user, slices.DeleteFunc(rules, func(r rbacv1.PolicyRule) bool { return len(r.Resources)+len(r.NonResourceURLs) == 0 }))
	if kind != "configmaps" {
		_, err := c.RbacV1().RoleBindings(system).Create(t.Context(), &rbacv1.RoleBinding{
			ObjectMeta: named(user), Subjects: subject(user), RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: "pilot-lite"},
		}, metav1.CreateOptions{})
		must(t, c, err)
	}
	given := c.role(t, user+"-given", user, nil)
	return func(verbs ...string) {
		t.Helper()
		given.Rules = nil
		if len(verbs) > 0 {
			given.Rules = []rbacv1.PolicyRule{{APIGroups: []string{"*"}, Resources: []string{kind}, Verbs: verbs}}
		}
		updated, err := c.RbacV1().ClusterRoles().Update(t.Context(), given, metav1.UpdateOptions{})
		given = must(t, updated, err)
	}
}

// role makes a ClusterRole and gives it to a user.
func (c *cluster) role(t *testing.T, name, user string, rules []rbacv1.PolicyRule) *rbacv1.ClusterRole {
	t.Helper()
	role, err := c.RbacV1().ClusterRoles().Create(t.Context(), &rbacv1.ClusterRole{ObjectMeta: named(name), Rules: rules}, metav1.CreateOptions{})
	must(t, role, err)
	_, err = c.RbacV1().ClusterRoleBindings().Create(t.Context(), &rbacv1.ClusterRoleBinding{
		ObjectMeta: named(name), Subjects: subject(user), RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: name},
	}, metav1.CreateOptions{})
	return must(t, role, err)
}

func subject(user string) []rbacv1.Subject {
	return []rbacv1.Subject{{Kind: rbacv1.UserKind, APIGroup: rbacv1.GroupName, Name: user}}
}
