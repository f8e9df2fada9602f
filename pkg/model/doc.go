// Package model is pilot-lite's view of the world at one instant: namespaces, services, pods and policies, converted at the edge and free of any
// client. A source builds a Snapshot; NewIndex groups its pods into workloads and answers who a selector or a peer means. Pure: data in, data out.
package model
