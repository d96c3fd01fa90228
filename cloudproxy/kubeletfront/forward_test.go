package kubeletfront

import (
	"errors"
	"fmt"
	"net/http"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"
)

type offlineSince time.Time

func (offlineSince) Error() string                  { return "no session" }
func (o offlineSince) Offline() (string, time.Time) { return "", time.Time(o) }

// An edge that was never seen may be one that is not there at all.
func TestNotReached(t *testing.T) {
	s := &Server{cfg: Config{Client: fake.NewClientset(&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "here"}})}}
	for _, tt := range []struct {
		node   string
		since  time.Time
		status int
		want   string
	}{
		{"here", time.Time{}, http.StatusServiceUnavailable, "edge here is offline"},
		{"gone", time.Time{}, http.StatusNotFound, `nodes "gone" not found`},
		{"gone", time.Unix(0, 0), http.StatusServiceUnavailable, "edge gone is offline since 1970-01-01T00:00:00Z"},
	} {
		got := s.notReached(t.Context(), &request{node: tt.node}, fmt.Errorf("dial: %w", offlineSince(tt.since)))
		if e, ok := errors.AsType[*refusal](got); !ok || e.status != tt.status || e.text != tt.want {
			t.Errorf("%s: got %v, want %d %s", tt.node, got, tt.status, tt.want)
		}
	}
}
