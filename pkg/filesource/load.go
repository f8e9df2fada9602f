// Package filesource reads the YAML that kubectl apply takes and turns it into snapshots. Input: files and folders. Output: a model.Snapshot, and
// diagnostics that name file, line, object, field and remedy. Entry points: Load, for one reading, and New, for a source that follows edits.
package filesource

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"unicode/utf8"

	networkingv1 "k8s.io/api/networking/v1"

	"github.com/pilot-lite/pilot-lite/pkg/convert"
	"github.com/pilot-lite/pilot-lite/pkg/model"
)

const (
	// maxFileBytes bounds a file: an object in a cluster has at most 1.5 MiB.
	maxFileBytes = 8 << 20
	// maxFiles bounds a folder.
	maxFiles = 20_000
	// stdinName stands for standard input among the files.
	stdinName = "-"
)

// Result is what a reading found.
type Result struct {
	Snapshot *model.Snapshot    // without the objects of bad files
	Problems []model.Diagnostic // errors: what makes a file bad, and objects that stand twice
	Notices  []model.Diagnostic // the rest: skipped kinds, relaxations
	Places   *Places            // where the objects stand
	MeshFrom string             // the file with the MeshConfig; "" where none has one
}

// Load reads files and folders once; "-" is stdin. The error is for a path that cannot be read at all.
func Load(paths []string, stdin io.Reader) (*Result, error) {
	files, err := readAll(paths, stdin)
	if err != nil {
		return nil, err
	}
	_, result := join(files, generations{}, nil)
	result.Places = placesOf(files)
	return result, nil
}

func readAll(paths []string, stdin io.Reader) (map[string]*contents, error) {
	files := map[string]*contents{}
	for _, path := range paths {
		body, isStream, err := readStream(path, stdin)
		switch {
		case err != nil:
			return nil, err
		case isStream:
			files[path] = readChecked(path, body)
			continue
		}
		found, err := listSome(path)
		if err != nil {
			return nil, err
		}
		for _, file := range found {
			files[file] = readFile(file)
		}
	}
	return files, nil
}

// readStream reads what can be read once: standard input, and a pipe that is named as a file, as a shell's <(...) is. Files and folders are none.
func readStream(path string, stdin io.Reader) (body []byte, isStream bool, err error) {
	if path != stdinName {
		if info, err := os.Stat(path); err != nil || info.Mode()&(fs.ModeNamedPipe|fs.ModeCharDevice) == 0 {
			return nil, false, nil // what is wrong, list says
		}
		pipe, err := os.Open(path)
		if err != nil {
			return nil, true, fmt.Errorf("read: %w", err) // which names the path
		}
		defer func() { _ = pipe.Close() }()
		stdin = pipe
	}
	if body, err = io.ReadAll(io.LimitReader(stdin, maxFileBytes+1)); err != nil {
		return nil, true, fmt.Errorf("read %s: %w", path, err)
	}
	return body, true, nil
}

// listSome is list for who reads once: a folder without files is a slip, of which nothing good can be said, where one that is followed may fill.
func listSome(root string) ([]string, error) {
	found, err := list(root)
	if err == nil && len(found) == 0 {
		return nil, fmt.Errorf("%s holds no file whose name ends in .yaml, .yml or .json: name another folder, or the file itself", root)
	}
	return found, err
}

// list returns the files that a path means: itself, or those of a folder and the folders in it.
func list(root string) ([]string, error) {
	info, err := os.Stat(root)
	if err != nil {
		return nil, fmt.Errorf("read: %w", err) // which names the path
	}
	if !info.IsDir() {
		return []string{root}, nil
	}
	var out []string
	visited := map[string]bool{}
	var walk func(dir string) error
	walk = func(dir string) error {
		// A link may lead back to a folder around it.
		real, err := filepath.EvalSymlinks(dir)
		if err != nil {
			return fmt.Errorf("read: %w", err)
		}
		if visited[real] {
			return nil
		}
		visited[real] = true
		entries, err := os.ReadDir(dir)
		if err != nil {
			return fmt.Errorf("read: %w", err)
		}
		for _, e := range entries {
			// "..data" and its like are how a mounted ConfigMap swaps all of its files at once: the visible names lead through it.
			if strings.HasPrefix(e.Name(), ".") {
				continue
			}
			path := filepath.Join(dir, e.Name())
			info, err := os.Stat(path)
			switch {
			case errors.Is(err, fs.ErrNotExist):
				continue // gone since the folder was read, or a link to nowhere
			case err != nil:
				return fmt.Errorf("read: %w", err)
			case info.IsDir():
				if err := walk(path); err != nil {
					return err
				}
			case isYAML(e.Name()):
				out = append(out, path)
			}
			if len(out) > maxFiles {
				return fmt.Errorf("read %s: more than %d files", root, maxFiles)
			}
		}
		return nil
	}
	return out, walk(root)
}

func isYAML(name string) bool {
	switch filepath.Ext(name) {
	case ".yaml", ".yml", ".json":
		return true
	}
	return false
}

// readFile reads and converts one file; a file that cannot be read is a bad file.
func readFile(path string) *contents {
	body, err := readBounded(path)
	if err != nil {
		c := &contents{objects: map[string]string{}}
		c.problem(path, 1, model.ObjectRef{Kind: "File", Name: path}, "", err.Error(), "make the file readable, or remove it", "unreadable-file")
		return c
	}
	return readChecked(path, body)
}

func readBounded(path string) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0) // a pipe in a folder would be waited for, until somebody writes into it
	if err != nil {
		return nil, fmt.Errorf("open: %w", err)
	}
	defer func() { _ = f.Close() }()
	if info, err := f.Stat(); err == nil && !info.Mode().IsRegular() {
		return nil, errors.New("not a regular file")
	}
	body, err := io.ReadAll(io.LimitReader(f, maxFileBytes+1))
	if err != nil {
		return nil, fmt.Errorf("read: %w", err)
	}
	return body, nil
}

func readChecked(path string, body []byte) *contents {
	c := &contents{objects: map[string]string{}}
	file := model.ObjectRef{Kind: "File", Name: path}
	switch {
	case len(body) > maxFileBytes:
		c.problem(path, 1, file, "", fmt.Sprintf("the file is larger than %d MiB", maxFileBytes>>20), "split it", "file-too-large")
	case !utf8.Valid(body) || slices.Contains(body, 0):
		c.problem(path, 1, file, "", "the file is not text", "write YAML in UTF-8, or remove it from the folder", "not-text")
	default:
		return read(path, body)
	}
	return c
}

// generations counts the generations of policies whose file gives none, as an API server would: one up with every change.
type generations map[string]generation

type generation struct {
	text   string
	policy *model.Policy
}

// of is a policy with its generation: the very same while its text is.
func (g generations) of(p *policy) *model.Policy {
	if !p.ours {
		return p.Policy
	}
	key := p.Namespace + "/" + p.Name
	known, counted := g[key]
	if counted && known.text == p.text {
		return known.policy
	}
	out := *p.Policy
	out.Generation = 1
	if counted {
		out.Generation += known.policy.Generation
	}
	g[key] = generation{p.text, &out}
	return &out
}

// join makes a snapshot of all files' contents. The world of an earlier result is used again where it is the same.
func join(files map[string]*contents, count generations, reuse *convert.World) (*convert.World, *Result) {
	r := &Result{}
	var parts convert.Parts
	var policies []*model.Policy
	var foreign []*networkingv1.NetworkPolicy
	mesh, meshAt := convert.DefaultMesh(), ""
	stands := map[string]string{}
	for _, path := range slices.Sorted(maps.Keys(files)) {
		c := files[path]
		r.Problems = append(r.Problems, c.problems...)
		r.Notices = append(r.Notices, c.notices...)
		if len(c.problems) > 0 {
			continue
		}
		r.Problems = append(r.Problems, duplicates(stands, c)...)
		parts.Namespaces = append(parts.Namespaces, c.parts.Namespaces...)
		parts.Services = append(parts.Services, c.parts.Services...)
		parts.Pods = append(parts.Pods, c.parts.Pods...)
		parts.Templates = append(parts.Templates, c.parts.Templates...)
		parts.Endpoints = append(parts.Endpoints, c.parts.Endpoints...)
		for i := range c.policies {
			policies = append(policies, count.of(&c.policies[i]))
		}
		foreign = append(foreign, c.foreign...)
		if c.mesh == nil {
			continue
		}
		if meshAt != "" {
			r.Problems = append(r.Problems, model.Diagnostic{
				Code: "duplicate-object", Severity: model.SeverityError, Object: model.ObjectRef{Kind: convert.MeshConfigKind, Source: path + ":1"},
				Consequence: "a second MeshConfig stands in " + meshAt, Remedy: "remove one of the two",
			})
			continue
		}
		mesh, meshAt = *c.mesh, path
	}
	r.MeshFrom = meshAt
	world := reuse
	if world == nil {
		world = convert.NewWorld(parts)
	}
	r.Snapshot = world.Snapshot(world.Resolve(policies), foreign, mesh, r.Notices)
	return world, r
}

// duplicates are objects that stand in an earlier file too.
func duplicates(stands map[string]string, c *contents) []model.Diagnostic {
	var out []model.Diagnostic
	for _, key := range slices.Sorted(maps.Keys(c.objects)) {
		if first, twice := stands[key]; twice {
			kind, name, _ := strings.Cut(key, " ")
			out = append(out, model.Diagnostic{
				Code: "duplicate-object", Severity: model.SeverityError, Object: model.ObjectRef{Kind: kind, Name: name, Source: c.objects[key]},
				Consequence: "the object stands at " + first + " already", Remedy: "remove one of the two",
			})
			continue
		}
		stands[key] = c.objects[key]
	}
	return out
}

// sameWorld says whether two readings of a file differ in their policies at most.
func sameWorld(a, b *contents) bool {
	empty := func(p *convert.Parts) bool {
		return len(p.Namespaces)+len(p.Services)+len(p.Pods)+len(p.Templates)+len(p.Endpoints) == 0
	}
	return empty(&a.parts) && empty(&b.parts)
}
