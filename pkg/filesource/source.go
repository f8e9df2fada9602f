package filesource

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/fsnotify/fsnotify"

	"github.com/pilot-lite/pilot-lite/pkg/convert"
	"github.com/pilot-lite/pilot-lite/pkg/model"
)

const (
	// rescanInterval is for file systems that tell of no changes.
	rescanInterval = 2 * time.Second
	// settleTime is how long a file that is written in place must rest before it is read: an editor first cuts it to nothing, and a policy that is
	// half there must neither vanish nor be called bad.
	settleTime = 60 * time.Millisecond
)

// Config configures a Source.
type Config struct {
	Paths  []string // files and folders
	Logger *slog.Logger
}

// Source follows files. It keeps the last good contents of a file that turns bad, and everything when a folder cannot be read; a file that is removed
// from a readable folder is gone. It has no snapshot until every file was good once. Safe for concurrent use.
type Source struct {
	paths   []string
	logger  *slog.Logger
	changed chan struct{}

	mu       sync.Mutex
	files    map[string]*file
	restless map[string]restless
	count    generations
	world    *convert.World
	snapshot *model.Snapshot
	problems []model.Diagnostic
}

// file is one file's last good contents, and what was seen last.
type file struct {
	seen stamp
	good *contents
	bad  *contents // the last reading, where it had problems
}

// stamp tells one state of a file from another.
type stamp struct {
	inode    uint64
	size     int64
	modified time.Time
}

// restless is a file that was written a moment ago.
type restless struct {
	seen  stamp
	since time.Time
}

// New returns a source; Run makes it read.
func New(c Config) *Source {
	return &Source{paths: slices.Clone(c.Paths), logger: c.Logger, changed: make(chan struct{}, 1), files: map[string]*file{}, restless: map[string]restless{}, count: generations{}}
}

// Changed receives a value after the snapshot changed; several changes may be one value.
func (s *Source) Changed() <-chan struct{} { return s.changed }

// Snapshot is the present snapshot; false until every file was good once.
func (s *Source) Snapshot() (*model.Snapshot, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.snapshot, s.snapshot != nil
}

// Problems are what is wrong now: the last good state of the files that they name is in force, if they had one; before the first snapshot nothing is.
func (s *Source) Problems() []model.Diagnostic {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.problems)
}

// Run reads, and follows edits until ctx is done.
func (s *Source) Run(ctx context.Context) error {
	watcher, err := fsnotify.NewWatcher()
	if err != nil {
		return fmt.Errorf("watch files: %w", err)
	}
	defer func() { _ = watcher.Close() }()
	tick := time.NewTicker(rescanInterval)
	defer tick.Stop()
	settle := time.NewTimer(0) // the first reading
	defer settle.Stop()
	for {
		touched := ""
		select {
		case <-ctx.Done():
			return nil
		case e := <-watcher.Events:
			touched = e.Name
		case err := <-watcher.Errors:
			s.logger.Warn("watching files failed: they are looked at every two seconds", "error", err)
		case <-tick.C:
		case <-settle.C:
		}
		if s.scan(watcher, touched) {
			settle.Reset(settleTime)
		}
	}
}

// scan looks at every file, reads those that changed, and says whether one has yet to settle.
func (s *Source) scan(watcher *fsnotify.Watcher, touched string) (unsettled bool) {
	found, problems := s.list(watcher)
	s.mu.Lock()
	defer s.mu.Unlock()
	read, changed, sameParts := false, false, s.world != nil
	for _, path := range found {
		f, again := s.look(path, touched)
		unsettled = unsettled || again
		if f == nil {
			continue
		}
		old := s.files[path]
		s.files[path] = f
		read = true
		if f.good == nil || old != nil && old.good == f.good {
			continue // nothing of it is in force, or the same as before
		}
		changed = true
		if old == nil || old.good == nil || !sameWorld(old.good, f.good) {
			sameParts = false
		}
	}
	if len(problems) == 0 {
		for path := range s.files {
			if !slices.Contains(found, path) {
				delete(s.files, path)
				delete(s.restless, path)
				changed, sameParts = true, false
			}
		}
	}
	if unsettled && s.snapshot == nil {
		return true // the first snapshot has everything
	}
	if !read && !changed && s.snapshot != nil && len(problems) == 0 && s.sameProblems(nil) {
		return unsettled
	}
	s.rebuild(problems, changed, sameParts)
	return unsettled
}

// list returns the files of all paths and watches their folders. A path that cannot be read is a problem, and leaves its files as they were.
func (s *Source) list(watcher *fsnotify.Watcher) ([]string, []model.Diagnostic) {
	var out []string
	var problems []model.Diagnostic
	for _, root := range s.paths {
		found, err := list(root)
		if err != nil {
			problems = append(problems, model.Diagnostic{
				Code: "unreadable-path", Severity: model.SeverityError, Object: model.ObjectRef{Kind: "File", Name: root, Source: root},
				Consequence: err.Error() + ": " + s.unreadable(), Remedy: "put it back, or make it readable",
			})
		}
		// A volume that is not mounted looks like this, and nobody removes everything file by file.
		if err == nil && len(found) == 0 && s.hadFiles(root) {
			problems = append(problems, model.Diagnostic{
				Code: "emptied-folder", Severity: model.SeverityError, Object: model.ObjectRef{Kind: "File", Name: root, Source: root},
				Consequence: "every file is gone from the folder: what was read from it last stays in force",
				Remedy:      "put the files back; to mean it, put in a file with an empty list: {apiVersion: v1, kind: List, items: []}",
			})
		}
		out = append(out, found...)
		dirs := map[string]bool{filepath.Dir(root): true}
		if info, err := os.Stat(root); err == nil && info.IsDir() {
			dirs[root] = true
		}
		for _, path := range found {
			dirs[filepath.Dir(path)] = true
		}
		for dir := range dirs {
			if !slices.Contains(watcher.WatchList(), dir) {
				_ = watcher.Add(dir) // what cannot be watched is looked at every two seconds
			}
		}
	}
	return out, problems
}

// unreadable says what follows from a path that cannot be read.
func (s *Source) unreadable() string {
	if _, served := s.Snapshot(); !served {
		return "nothing is served until it can be"
	}
	return "what was read from it last stays in force"
}

// hadFiles says whether a file under a root is in force.
func (s *Source) hadFiles(root string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for path := range s.files {
		if within, err := filepath.Rel(root, path); err == nil && filepath.IsLocal(within) {
			return true
		}
	}
	return false
}

// look reads a file if it changed. A file that took another's place is whole; one that is new or written in place is left until it has rested.
func (s *Source) look(path, touched string) (f *file, again bool) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, !errors.Is(err, os.ErrNotExist)
	}
	now := stamp{size: info.Size(), modified: info.ModTime()}
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		now.inode = st.Ino
	}
	old := s.files[path]
	if old != nil && old.seen == now && touched != path {
		return nil, false
	}
	inPlace := old == nil || old.seen.inode == now.inode
	if inPlace && !s.rests(path, now) {
		return nil, true
	}
	delete(s.restless, path)
	c := readFile(path)
	c.written = nil // places are for those who read once
	f = &file{seen: now, good: c}
	if len(c.problems) > 0 {
		f.good, f.bad = nil, c
		if old != nil {
			f.good = old.good
		}
	}
	return f, false
}

// rests says whether a file was left alone for the settle time: by its own time, or, as that may lie in the future, by what was seen of it.
func (s *Source) rests(path string, now stamp) bool {
	if time.Since(now.modified) >= settleTime {
		return true
	}
	r, known := s.restless[path]
	if !known || r.seen != now {
		s.restless[path] = restless{seen: now, since: time.Now()}
		return false
	}
	return time.Since(r.since) >= settleTime
}

// rebuild makes the snapshot of the last good contents. While a file was never good, or an object stands twice, the one before stays in force.
func (s *Source) rebuild(problems []model.Diagnostic, changed, sameParts bool) {
	files := map[string]*contents{}
	missing := len(problems) > 0 && s.snapshot == nil
	for path, f := range s.files {
		if f.bad != nil {
			problems = append(problems, f.bad.problems...)
		}
		if f.good != nil {
			files[path] = f.good
		} else if s.snapshot == nil {
			missing = true
		}
	}
	var reuse *convert.World
	if sameParts {
		reuse = s.world
	}
	world, r := join(files, s.count, reuse)
	problems = append(problems, r.Problems...)
	if !s.sameProblems(problems) {
		follows := "a file is not in force as it stands; its last good state is, if it had one"
		if s.snapshot == nil {
			follows = "a file is bad: nothing is served until it is mended"
		}
		for _, p := range problems {
			s.logger.Error(follows, "problem", p.String())
		}
		if len(problems) == 0 {
			s.logger.Info("every file is in force as it stands")
		}
		s.problems = problems
	}
	if len(r.Problems) > 0 {
		s.world = nil // files have moved on from the one that is in force: the next snapshot must not reuse it
		return
	}
	if missing || !changed && s.snapshot != nil {
		return
	}
	s.world, s.snapshot = world, r.Snapshot
	select {
	case s.changed <- struct{}{}:
	default:
	}
}

func (s *Source) sameProblems(problems []model.Diagnostic) bool {
	return slices.Equal(s.problems, problems)
}
