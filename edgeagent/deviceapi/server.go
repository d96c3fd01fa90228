package deviceapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/skerry-io/skerry/devices"
	"github.com/skerry-io/skerry/devices/survey"
	"github.com/skerry-io/skerry/devices/v1alpha1"
	devicemanager "github.com/skerry-io/skerry/edgeagent/devices"
)

const (
	// maxRequests bounds those that are under way, maxSurveys those that look at
	// devices which may have thousands of nodes.
	maxRequests = 16
	maxSurveys  = 2
	// Timeouts of what is asked of a device.
	liveTimeout     = time.Minute
	discoverTimeout = 30 * time.Second
	browseTimeout   = 15 * time.Minute
	// bodyTimeout bounds how long a body may take: it comes with the request.
	bodyTimeout = 30 * time.Second
)

// Devices are those of the edge; *devices.Manager of edgeagent is one.
type Devices interface {
	Live(namespace, name string) (devicemanager.Live, bool)
	// Driver gives a protocol's, nil if the agent has none.
	Driver(protocol string) devices.Driver
}

// opcuaSurveyor looks at OPC UA servers; the driver of opcua does.
type opcuaSurveyor interface {
	Discover(ctx context.Context, url string) (survey.Discovery, error)
	Browse(ctx context.Context, dev *devices.Device, root string, most int, tell func(survey.Line) error) error
}

// modbusIdentifier asks Modbus devices who they are; the driver of modbus does.
type modbusIdentifier interface {
	Identify(ctx context.Context, m v1alpha1.Modbus) (survey.Identification, error)
}

// Server answers what is asked of devices.
type Server struct {
	devices  Devices
	log      *slog.Logger
	requests chan struct{} // holds one item for each request
	surveys  chan struct{} // and for each survey
	mux      *http.ServeMux
}

// New makes a Server. A nil log discards.
func New(d Devices, log *slog.Logger) *Server {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	s := &Server{devices: d, log: log, requests: make(chan struct{}, maxRequests), surveys: make(chan struct{}, maxSurveys), mux: http.NewServeMux()}
	handle := func(pattern string, places chan struct{}, h func(w http.ResponseWriter, r *http.Request) error) {
		s.mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) { s.serve(w, r, places, h) })
	}
	handle("POST "+survey.PathDiscover, s.surveys, s.discover)
	handle("POST "+survey.PathBrowse, s.surveys, s.browse)
	handle("POST "+survey.PathIdentify, s.surveys, s.identify)
	handle("GET "+survey.PrefixLive+"{namespace}/{name}/"+survey.Read, s.requests, s.read)
	handle("POST "+survey.PrefixLive+"{namespace}/{name}/"+survey.Write, s.requests, s.write)
	handle("POST "+survey.PrefixLive+"{namespace}/{name}/"+survey.Call, s.requests, s.call)
	return s
}

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.mux.ServeHTTP(w, r) }

// problem is an error with its status of HTTP.
type problem struct {
	status int
	text   string
}

func (p *problem) Error() string { return p.text }

func badRequest(format string, args ...any) error {
	return &problem{http.StatusBadRequest, fmt.Sprintf(format, args...)}
}

func (s *Server) serve(w http.ResponseWriter, r *http.Request, places chan struct{}, h func(w http.ResponseWriter, r *http.Request) error) {
	select {
	case places <- struct{}{}:
		defer func() { <-places }()
	default:
		fail(w, &problem{http.StatusTooManyRequests, fmt.Sprintf("%d requests of that kind are under way at this edge, which is the most: try again when one has ended", cap(places))})
		return
	}
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(bodyTimeout)) // best effort: a test's writer has none
	if err := h(w, r); err != nil {
		s.log.Debug("request for devices failed", "path", r.URL.Path, "error", err)
		fail(w, err)
	}
}

// fail answers with a Status, which kube-apiserver passes on as it is.
func fail(w http.ResponseWriter, err error) {
	status := http.StatusBadGateway // the device's fault
	var p *problem
	var config *devices.ConfigError
	switch {
	case errors.As(err, &p):
		status = p.status
	case errors.As(err, &config):
		status = http.StatusBadRequest
	case errors.Is(err, devices.ErrUnknownProperty):
		status = http.StatusNotFound
	case errors.Is(err, devices.ErrNotConnected):
		status = http.StatusServiceUnavailable
	case errors.Is(err, context.DeadlineExceeded):
		status = http.StatusGatewayTimeout
	}
	writeJSON(w, status, &metav1.Status{
		TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"},
		Status:   metav1.StatusFailure, Code: int32(status), Reason: reason(status), Message: err.Error(),
	})
}

func reason(status int) metav1.StatusReason {
	switch status {
	case http.StatusBadRequest:
		return metav1.StatusReasonBadRequest
	case http.StatusNotFound:
		return metav1.StatusReasonNotFound
	case http.StatusRequestEntityTooLarge:
		return metav1.StatusReasonRequestEntityTooLarge
	case http.StatusTooManyRequests:
		return metav1.StatusReasonTooManyRequests
	case http.StatusServiceUnavailable:
		return metav1.StatusReasonServiceUnavailable
	case http.StatusGatewayTimeout:
		return metav1.StatusReasonTimeout
	}
	return metav1.StatusReasonUnknown
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	b, err := json.Marshal(v)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(append(b, '\n')) // the caller has gone
}

// body reads a request. Fields that this agent does not know are refused: to do a
// part of what was asked for could be worse than nothing.
func body(r *http.Request, into any) error {
	text, err := io.ReadAll(io.LimitReader(r.Body, survey.MaxBody+1))
	switch {
	case err != nil:
		return badRequest("read the request: %v", err)
	case len(text) > survey.MaxBody:
		return &problem{http.StatusRequestEntityTooLarge, fmt.Sprintf("the request has more than %d bytes", survey.MaxBody)}
	}
	if err := strictly(text, into); err != nil {
		return badRequest("the request can't be read by this agent, is it older than skerry? %v", err)
	}
	return nil
}
