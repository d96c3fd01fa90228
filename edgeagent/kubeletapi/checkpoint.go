package kubeletapi

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/skerry-io/skerry/tunnel/wire"
)

// checkpoint writes the state of a running container to this machine's disk and
// answers with the name of the file, or with a kubelet's words.
func (s *Server) checkpoint(w http.ResponseWriter, r *http.Request) {
	ns, pod, name := r.PathValue("namespace"), r.PathValue("pod"), r.PathValue("container")
	p, ok := s.pods.Lookup(ns, pod, r.Header.Get(podUIDHeader))
	if !ok {
		writeError(w, &wire.Error{Code: wire.CodeNotFound, Text: "pod does not exist"})
		return
	}
	c, ok := p.container(name)
	if !ok {
		writeError(w, &wire.Error{Code: wire.CodeNotFound, Text: fmt.Sprintf("container %s does not exist", name)})
		return
	}
	timeout, err := checkpointTimeout(r.URL.Query()["timeout"])
	if err != nil {
		writeError(w, err)
		return
	}
	file := filepath.Join(s.node.CheckpointDir, fmt.Sprintf("checkpoint-%s_%s-%s-%s.tar", pod, ns, name, time.Now().Format(time.RFC3339)))
	switch {
	case c.State != Running || c.Current.ID == "":
		err = fmt.Errorf("container %s not found", name)
	default:
		if err = os.MkdirAll(s.node.CheckpointDir, 0o700); err == nil { // it holds the container's memory
			err = s.node.Checkpoint(r.Context(), c.Current.ID, file, timeout)
		}
	}
	if err != nil {
		writeStatus(w, http.StatusInternalServerError, fmt.Sprintf("checkpointing of %s/%s/%s failed (%v)", ns, pod, name, err))
		return
	}
	s.log.Info("container checkpointed", "namespace", ns, "pod", pod, "container", name, "file", file)
	writeJSON(w, func(out io.Writer) error {
		return json.NewEncoder(out).Encode(map[string][]string{"items": {file}})
	})
}

// checkpointTimeout reads the last of the values, in seconds; a kubelet has 404
// for one that it can't read.
func checkpointTimeout(values []string) (time.Duration, error) {
	if len(values) == 0 {
		return 0, nil
	}
	n, err := strconv.ParseInt(values[len(values)-1], 10, 64)
	if err != nil || n < 0 || n > math.MaxInt64/int64(time.Second) {
		return 0, &wire.Error{Code: wire.CodeNotFound, Text: "cannot parse value of timeout parameter"}
	}
	return time.Duration(n) * time.Second, nil
}
