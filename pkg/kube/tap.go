package kube

import (
	"sync"

	"k8s.io/apimachinery/pkg/watch"
)

// tapped passes a watch's events on. Unlike watch.Filter it leaves no goroutine behind when it is stopped with an event on its way.
type tapped struct {
	source  watch.Interface
	events  chan watch.Event
	stopped chan struct{}
	once    sync.Once
}

var _ watch.Interface = (*tapped)(nil)

// tap has each event of a watch looked at before it is passed on. After the last one, if nobody stopped the watch, comes what ended returns.
func tap(source watch.Interface, look func(watch.Event), ended func() []watch.Event) *tapped {
	t := &tapped{source: source, events: make(chan watch.Event), stopped: make(chan struct{})}
	go func() {
		defer close(t.events)
		for e := range source.ResultChan() {
			select {
			case <-t.stopped: // that it was stopped can come as an error, which is none
				return
			default:
			}
			look(e)
			if !t.pass(e) {
				return
			}
		}
		for _, e := range ended() {
			if !t.pass(e) {
				return
			}
		}
	}()
	return t
}

// pass passes an event on; false where the watch was stopped instead.
func (t *tapped) pass(e watch.Event) bool {
	select {
	case t.events <- e:
		return true
	case <-t.stopped:
		return false
	}
}

// Stop ends the watch.
func (t *tapped) Stop() {
	t.once.Do(func() { close(t.stopped) })
	t.source.Stop()
}

// ResultChan has the events, and is closed when there will be no more.
func (t *tapped) ResultChan() <-chan watch.Event { return t.events }
