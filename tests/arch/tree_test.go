package arch

import (
	"bytes"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// tree is what the rules look at.
type tree struct {
	files []file
	goMod string // content of the root's go.mod
}

// file is one Go file that a person wrote.
type file struct {
	dir, name string // slash-separated, relative to the root
	lines     int
	imports   []string
	hasDoc    bool // it has a package comment
	test      bool // _test.go
	// nested says that another module owns the file: only the rules about
	// reading hold there, for it ships with nothing.
	nested bool
}

func (f file) path() string { return path.Join(f.dir, f.name) }

// add parses one file; files that a program wrote are left out.
func (t *tree) add(name string, src []byte, nested bool) error {
	parsed, err := parser.ParseFile(token.NewFileSet(), name, src, parser.ImportsOnly|parser.ParseComments)
	if err != nil {
		return err
	}
	if ast.IsGenerated(parsed) {
		return nil
	}
	f := file{
		dir:    path.Dir(name),
		name:   path.Base(name),
		lines:  bytes.Count(src, []byte("\n")),
		hasDoc: parsed.Doc != nil,
		test:   strings.HasSuffix(name, "_test.go"),
		nested: nested,
	}
	for _, spec := range parsed.Imports {
		imp, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			return err
		}
		f.imports = append(f.imports, imp)
	}
	t.files = append(t.files, f)
	return nil
}

// readTree reads the repository through the os package, so that go test's
// cache sees what was read: what a child process like "go list" reads it does
// not see, and then reports an old success.
func readTree(t *testing.T) tree {
	t.Helper()
	root := filepath.Join("..", "..")
	goMod, err := os.ReadFile(filepath.Join(root, "go.mod"))
	if err != nil {
		t.Fatal(err)
	}
	tr := tree{goMod: string(goMod)}
	var modules []string // folders with a go.mod of their own
	err = filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, p)
		if err != nil {
			return err
		}
		rel = filepath.ToSlash(rel)
		if d.IsDir() {
			return enter(p, rel, &modules)
		}
		if !strings.HasSuffix(rel, ".go") {
			return nil
		}
		src, err := os.ReadFile(p)
		if err != nil {
			return err
		}
		return tr.add(rel, src, within(rel, modules...))
	})
	if err != nil {
		t.Fatal(err)
	}
	return tr
}

// enter skips the folders that the go command skips too, which includes .git
// and .demo, and notes those of other modules.
func enter(p, rel string, modules *[]string) error {
	base := path.Base(rel)
	if rel == "." {
		return nil
	}
	if strings.HasPrefix(base, ".") || strings.HasPrefix(base, "_") || base == "testdata" || base == "vendor" {
		return filepath.SkipDir
	}
	if _, err := os.Stat(filepath.Join(p, "go.mod")); err == nil {
		*modules = append(*modules, rel)
	}
	return nil
}

// within reports whether p is one of dirs or below one.
func within(p string, dirs ...string) bool {
	for _, dir := range dirs {
		if p == dir || strings.HasPrefix(p, dir+"/") {
			return true
		}
	}
	return false
}
