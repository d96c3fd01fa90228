package main

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestTroubleshootingQuotesRealErrors looks for each heading in the sources: help for
// a text that nobody says any more is of no use.
func TestTroubleshootingQuotesRealErrors(t *testing.T) {
	var sources strings.Builder
	for _, dir := range []string{".", "../../certs", "../../cloudproxy", "../../edgeagent"} {
		err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
			if err != nil || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return err
			}
			data, err := os.ReadFile(path)
			sources.Write(data)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	doc, err := os.ReadFile("TROUBLESHOOTING.md")
	if err != nil {
		t.Fatal(err)
	}
	headings := regexp.MustCompile("(?m)^### `(.*)`$").FindAllStringSubmatch(string(doc), -1)
	if len(headings) < 10 {
		t.Fatalf("%d headings", len(headings))
	}
	// Go and its libraries say these.
	others := map[string]bool{"x509: certificate signed by unknown authority": true, "dial tcp IP:10250: i/o timeout": true}
	for _, h := range headings {
		if !others[h[1]] && !strings.Contains(sources.String(), h[1]) {
			t.Errorf("nothing says %q", h[1])
		}
	}
}

// TestDocumentedCommandsExist runs the flags that documents name against the commands.
func TestDocumentedCommandsExist(t *testing.T) {
	call := regexp.MustCompile("skerry ((?:[a-z]+(?:-[a-z]+)* ?)+)([^\\n`|]*)")
	flag := regexp.MustCompile(`--([a-z][a-z-]+)`)
	for _, name := range []string{"TROUBLESHOOTING.md", "../../manifests/INSTALL.md", "../../SECURITY.md", "../../README.md"} {
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range call.FindAllStringSubmatch(string(data), -1) {
			root := newRoot(streams{})
			cmd, _, err := root.Find(strings.Fields(m[1]))
			if err != nil || cmd == root {
				continue // the word in a sentence
			}
			for _, f := range flag.FindAllStringSubmatch(m[2], -1) {
				if cmd.Flags().Lookup(f[1]) == nil && cmd.InheritedFlags().Lookup(f[1]) == nil {
					t.Errorf("%s: %s has no flag --%s", name, cmd.CommandPath(), f[1])
				}
			}
		}
	}
}
