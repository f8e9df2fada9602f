// Package convert turns Kubernetes API objects into model values, at the edge: behind it nobody reads an API object, fills in a default or asks
// whether a part was understood. Input: one object. Output: a model value and diagnostics, never an error. One function a kind; for an L7Policy
// it is Policy.
package convert
