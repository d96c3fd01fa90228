package kubeletapi

import (
	"errors"
	"fmt"
	"html"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path"
	"syscall"

	"github.com/skerry-io/skerry/tunnel/wire"
)

const (
	// maxLogFiles bounds how much of a folder is listed: a folder with more is not
	// one that people read.
	maxLogFiles = 10_000
	// listChunk is how much of it is in memory at once.
	listChunk = 100
)

// logFiles shows a file of the machine's log folder, or what is in a folder of
// it. Nothing outside can be named: neither by "..", which the request's path has
// lost long before, nor by a symbolic link, which os.Root does not follow there.
func (s *Server) logFiles(w http.ResponseWriter, r *http.Request) {
	root, err := os.OpenRoot(s.node.LogDir)
	if err != nil {
		writeError(w, logFileError("", err))
		return
	}
	defer root.Close() //nolint:errcheck // nothing was written
	name := path.Clean("/" + r.PathValue("path"))[1:]
	if name == "" {
		name = "."
	}
	// A pipe or a device must not hold the request, and is not a log.
	f, err := root.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		writeError(w, logFileError(name, err))
		return
	}
	defer f.Close() //nolint:errcheck // nothing was written
	info, err := f.Stat()
	switch {
	case err != nil:
		writeError(w, logFileError(name, err))
	case info.IsDir():
		answer(w, "text/html; charset=utf-8", func(out io.Writer) error { return listFiles(out, f) })
	case !info.Mode().IsRegular():
		writeError(w, &wire.Error{Code: wire.CodeBadRequest, Text: fmt.Sprintf("%s is not a file", name)})
	default:
		// As long as it is now: one that grows would never end. What a log says is
		// never taken for a page.
		w.Header().Set("X-Content-Type-Options", "nosniff")
		w.Header().Set("Content-Type", logFileType(name))
		w.Header().Set("Last-Modified", info.ModTime().UTC().Format(http.TimeFormat))
		answer(w, logFileType(name), func(out io.Writer) error {
			_, err := io.CopyBuffer(onlyWriter{out}, io.LimitReader(f, info.Size()), make([]byte, writeBuffer))
			return err
		})
	}
}

// onlyWriter hides ReadFrom, with which a buffer would not be used.
type onlyWriter struct{ io.Writer }

// logFileType tells what is packed from what can be read.
func logFileType(name string) string {
	switch path.Ext(name) {
	case ".gz", ".xz", ".zst", ".bz2", ".journal", ".journal~", ".tar":
		return "application/octet-stream"
	}
	return typeText
}

// listFiles writes what a kubelet's file server does: a link a line.
func listFiles(w io.Writer, dir *os.File) error {
	if _, err := io.WriteString(w, "<!doctype html>\n<meta name=\"viewport\" content=\"width=device-width\">\n<pre>\n"); err != nil {
		return err
	}
	for n := 0; n < maxLogFiles; n += listChunk {
		entries, err := dir.ReadDir(listChunk)
		for _, e := range entries {
			name := e.Name()
			if e.IsDir() {
				name += "/"
			}
			link := url.URL{Path: name}
			if _, err := fmt.Fprintf(w, "<a href=\"%s\">%s</a>\n", html.EscapeString(link.String()), html.EscapeString(name)); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return fmt.Errorf("list log files: %w", err)
		}
	}
	_, err := io.WriteString(w, "</pre>\n")
	return err
}

// logFileError tells what is not there from what can't be read.
func logFileError(name string, err error) error {
	if pathErr, ok := errors.AsType[*fs.PathError](err); ok {
		err = pathErr.Err // where the folder is says nothing to the caller
	}
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ENOTDIR), errors.Is(err, syscall.ENAMETOOLONG):
		return &wire.Error{Code: wire.CodeNotFound, Text: "404 page not found"}
	case errors.Is(err, syscall.ELOOP), errors.Is(err, syscall.EINVAL), errors.Is(err, syscall.ENXIO):
		return &wire.Error{Code: wire.CodeBadRequest, Text: fmt.Sprintf("%s can't be opened: %v", name, err)}
	}
	return fmt.Errorf("open log file %s: %w", name, err)
}
