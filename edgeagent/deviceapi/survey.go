package deviceapi

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"runtime/debug"

	"github.com/skerry-io/skerry/devices"
	"github.com/skerry-io/skerry/devices/survey"
	"github.com/skerry-io/skerry/devices/v1alpha1"
)

// strictly decodes one JSON value without unknown fields.
func strictly(text []byte, into any) error {
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.DisallowUnknownFields()
	if err := dec.Decode(into); err != nil {
		return err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return errors.New("there is more than one JSON value")
	}
	return nil
}

// as gives the driver of a protocol as one that can do more.
func as[T any](s *Server, protocol string) (T, error) {
	d, ok := s.devices.Driver(protocol).(T)
	if !ok {
		return d, &problem{http.StatusNotImplemented, fmt.Sprintf("the agent of this edge has no driver for %s: update it", protocol)}
	}
	return d, nil
}

// safely turns a panic of a driver, which reads what devices send, into an error.
func safely(f func() error) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("the driver failed: %v\n%s", r, debug.Stack())
		}
	}()
	return f()
}

func (s *Server) discover(w http.ResponseWriter, r *http.Request) error {
	driver, err := as[opcuaSurveyor](s, "opcua")
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(r.Context(), discoverTimeout)
	defer cancel()
	var found survey.Discovery
	err = safely(func() (err error) {
		found, err = driver.Discover(ctx, r.URL.Query().Get("url"))
		return err
	})
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, found)
	return nil
}

func (s *Server) identify(w http.ResponseWriter, r *http.Request) error {
	driver, err := as[modbusIdentifier](s, "modbus")
	if err != nil {
		return err
	}
	var in survey.IdentifyRequest
	if err := body(r, &in); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(r.Context(), discoverTimeout)
	defer cancel()
	var found survey.Identification
	err = safely(func() (err error) {
		found, err = driver.Identify(ctx, in.Modbus)
		return err
	})
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, found)
	return nil
}

// browse streams lines. Once the first is out, an error is one in the last line.
func (s *Server) browse(w http.ResponseWriter, r *http.Request) error {
	driver, err := as[opcuaSurveyor](s, "opcua")
	if err != nil {
		return err
	}
	var in survey.BrowseRequest
	if err := body(r, &in); err != nil {
		return err
	}
	in.OPCUA.URL = r.URL.Query().Get("url") // where it is logged
	switch {
	case in.MaxNodes == 0:
		in.MaxNodes = survey.DefaultNodes
	case in.MaxNodes < 0 || in.MaxNodes > survey.MaxNodes:
		return badRequest("maxNodes %d is not within 1 and %d", in.MaxNodes, survey.MaxNodes)
	}
	dev := &devices.Device{
		Spec:    v1alpha1.DeviceSpec{Protocol: v1alpha1.Protocol{OPCUA: &in.OPCUA}},
		Secrets: func(name string) (map[string][]byte, bool) { data, ok := in.Secrets[name]; return data, ok },
	}
	ctx, cancel := context.WithTimeout(r.Context(), browseTimeout)
	defer cancel()
	out := &lines{w: w, rc: http.NewResponseController(w)}
	err = safely(func() error { return driver.Browse(ctx, dev, in.Root, in.MaxNodes, out.tell) })
	switch {
	case err == nil:
		return nil
	case !out.started:
		return err
	}
	end := survey.End{Error: err.Error()}
	if rejected, ok := errors.AsType[rejection](err); ok {
		end.Fingerprint = rejected.RejectedFingerprint()
	}
	_ = out.tell(survey.Line{End: &end}) // the caller has gone
	return nil
}

// rejection is the error of a server's certificate that is not trusted.
type rejection interface {
	error
	RejectedFingerprint() string
}

// lines writes JSON lines; those of progress at once.
type lines struct {
	w       http.ResponseWriter
	rc      *http.ResponseController
	started bool
}

func (l *lines) tell(line survey.Line) error {
	b, err := json.Marshal(line)
	if err != nil {
		return fmt.Errorf("encode what was found: %w", err)
	}
	if !l.started {
		l.started = true
		l.w.Header().Set("Content-Type", "application/jsonl")
		l.w.WriteHeader(http.StatusOK)
	}
	if len(b) > survey.MaxLine {
		return nil // no type or node of use is that large
	}
	if _, err := l.w.Write(append(b, '\n')); err != nil {
		return fmt.Errorf("write to the caller: %w", err)
	}
	if line.Progress != nil {
		_ = l.rc.Flush() // best effort: a test's writer may have none
	}
	return nil
}
