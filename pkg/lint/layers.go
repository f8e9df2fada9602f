package lint

import (
	"github.com/pilot-lite/pilot-lite/pkg/translate/netpol"
)

func (l *linter) layers(companions []netpol.Companion) {}
