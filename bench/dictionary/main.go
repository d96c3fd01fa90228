// Command dictionary makes the dictionary of tunnel/dictionary from objects that
// it makes itself: pods as controllers write them, ConfigMaps, Secrets and tokens.
// Names, numbers and UIDs are drawn from a generator with a fixed seed, so it
// always makes the same.
package main

import (
	"flag"
	"fmt"
	"os"

	"github.com/klauspost/compress/zstd"

	"github.com/skerry-io/skerry/tunnel/dictionary"
)

func main() {
	out := flag.String("out", "", "file to write")
	flag.Parse()
	if err := run(*out); err != nil {
		fmt.Fprintln(os.Stderr, "dictionary:", err)
		os.Exit(1)
	}
}

func run(out string) error {
	s := newSampler(1)
	history, err := s.history()
	if err != nil {
		return err
	}
	var contents [][]byte
	for range 400 {
		b, err := s.any()
		if err != nil {
			return err
		}
		contents = append(contents, b)
	}
	dict, err := zstd.BuildDict(zstd.BuildDictOptions{
		ID: dictionary.ID, Contents: contents, History: history, Offsets: [3]int{1, 4, 8}, Level: zstd.SpeedDefault,
	})
	if err != nil {
		return fmt.Errorf("build: %w", err)
	}
	return os.WriteFile(out, dict, 0o644)
}
