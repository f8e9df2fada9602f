//go:build !linux

package capture

import (
	"errors"
	"fmt"
)

// Apply needs Linux.
func Apply(Config) error { return fmt.Errorf("capture: %w", errors.ErrUnsupported) }

// Verify needs Linux.
func Verify(Config) error { return fmt.Errorf("capture: %w", errors.ErrUnsupported) }

// Ruleset needs Linux.
func Ruleset(Config) (string, error) { return "", fmt.Errorf("capture: %w", errors.ErrUnsupported) }
