package convert_test

import (
	"testing"

	"github.com/pilot-lite/pilot-lite/pkg/convert"
)

// BenchmarkPolicy converts a policy of ordinary size, checks included.
func BenchmarkPolicy(b *testing.B) {
	p := policy(b, `
podSelector: {matchLabels: {app: reviews}}
ingress:
- name: reads
  from: [{podSelector: {matchLabels: {app: productpage}}, serviceAccounts: [{name: productpage}]}]
  ports: [{port: 9080}]
  http: [{hosts: [reviews], methods: [GET], paths: [{value: /reviews}, {type: RegularExpression, value: '/v[0-9]+/.*'}], headers: [{name: x-a, type: Present}]}]
`)
	b.ReportAllocs()
	for b.Loop() {
		convert.Policy(p)
	}
}
