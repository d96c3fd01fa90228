package report

import (
	"errors"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/skerry-io/skerry/tunnel/wire"
)

// Verdicts on reports that are not written. All are acknowledged.
var (
	// errGone says that what the report is about is not there any more.
	errGone = errors.New("object is gone")
	// errForeign says that the report is about something that is not the edge's.
	errForeign = errors.New("object is not this edge's")
	// errUnwelcome says that an admission plugin, a quota or a right that is missing
	// keeps a mirror pod from being made. Only the mirror is missing then, so the edge
	// is asked for it again after a while, and is held up by nothing.
	errUnwelcome = errors.New("mirror pod is not allowed")
	// errAskAgain says that a certificate can't be requested now. The edge asks again by
	// itself when it hears nothing, and until then is held up by nothing.
	errAskAgain = errors.New("certificate can't be requested now")
	// errNodeAbsent says that Nodes has yet to make the edge's Node; it is no verdict.
	errNodeAbsent = errors.New("node is not made yet")
	// errUnwanted says that nobody takes samples.
	errUnwanted = errors.New("nobody takes samples")
)

// verdict counts what became of an attempt and says whether it was the last.
func (l *lanes) verdict(report wire.Report, err error) bool {
	switch {
	case err == nil:
		l.r.update(func(s *Stats) { s.Written++ })
		return true
	case errors.Is(err, errUnwanted):
		l.r.update(func(s *Stats) { s.Unwanted++ })
		return true
	case errors.Is(err, errForeign):
		l.log.Warn("report about something that is not this edge's, dropped", "key", report.Key, "subject", uint64(report.Subject), "error", err)
		l.r.update(func(s *Stats) { s.Foreign++ })
		return true
	case errors.Is(err, errGone):
		l.log.Info("report about something that is gone, dropped", "key", report.Key, "subject", uint64(report.Subject), "error", err)
		l.r.update(func(s *Stats) { s.Gone++ })
		return true
	case errors.Is(err, errUnwelcome):
		l.log.Warn("mirror of a static pod is not allowed, the edge is asked for it again later", "key", report.Key, "error", err, "after", unwelcomeRetry)
		l.r.update(func(s *Stats) { s.Refused++ })
		l.noteUnwelcome(report.Key)
		return true
	case errors.Is(err, errAskAgain):
		l.log.Warn("certificate of a pod can't be requested, until its edge asks again", "key", report.Key, "error", err)
		l.r.update(func(s *Stats) { s.Refused++ })
		return true
	case hopeless(err):
		// One of the two halves is wrong, and what the cluster shows is not what is.
		l.log.Warn("report is refused for good, dropped", "key", report.Key, "subject", uint64(report.Subject), "error", err)
		l.r.update(func(s *Stats) { s.Refused++ })
		return true
	}
	l.r.update(func(s *Stats) { s.Retried++ })
	return false
}

// badReportError says that a report makes no sense, now and for ever.
type badReportError struct{ err error }

// Error implements error.
func (e *badReportError) Error() string { return e.err.Error() }

// Unwrap gives the cause.
func (e *badReportError) Unwrap() error { return e.err }

// hopeless says that trying again can't help. Forbidden is not among it: rights
// of the proxy that are missing are put right by an operator, and until then the
// edge keeps what it has to say.
func hopeless(err error) bool {
	var bad *badReportError
	return errors.As(err, &bad) ||
		apierrors.IsInvalid(err) || apierrors.IsBadRequest(err) || apierrors.IsMethodNotSupported(err) ||
		apierrors.IsRequestEntityTooLargeError(err) || apierrors.IsUnsupportedMediaType(err)
}
