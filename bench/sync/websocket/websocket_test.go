package websocket_test

import (
	"context"
	"encoding/json"
	"log/slog"
	"net"
	"os"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"

	"github.com/skerry-io/skerry/bench/sync/objects"
	"github.com/skerry-io/skerry/bench/sync/websocket"
	"github.com/skerry-io/skerry/bench/tunnel/system"
)

const patience = 20 * time.Second

// freeAddress is one that nobody listens on.
func freeAddress(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().String()
}

// background runs f until the test ends.
func background(t *testing.T, f func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- f(ctx) }()
	t.Cleanup(func() {
		cancel()
		<-ended
	})
}

// files are the names in a directory.
func files(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// TestPair brings an edge up to date, changes and deletes, and connects again.
func TestPair(t *testing.T) {
	client := fake.NewClientset(
		objects.ConfigMap("a", 1), objects.ConfigMap("foreign", 2),
		objects.Pod("p", "edge", "image", []string{"a"}), objects.Pod("q", "elsewhere", "image", []string{"foreign"}),
	)
	authority, err := system.NewAuthority()
	if err != nil {
		t.Fatal(err)
	}
	issuer, err := authority.Issuer()
	if err != nil {
		t.Fatal(err)
	}
	serverTLS, err := issuer.Server()
	if err != nil {
		t.Fatal(err)
	}
	clientTLS, err := issuer.Client("edge", nil)
	if err != nil {
		t.Fatal(err)
	}
	address, dir := freeAddress(t), t.TempDir()
	cloud, err := websocket.NewCloud(websocket.CloudConfig{
		Client: client, Namespace: objects.Namespace, Address: address, TLS: serverTLS, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	background(t, cloud.Run)

	stored := make(chan corev1.ConfigMap, 10) // without pods
	connect := func() {
		e, err := websocket.NewEdge(websocket.EdgeConfig{
			Node: "edge", Address: address, TLS: clientTLS, Dir: dir,
			Stored: func(b []byte) {
				var cm corev1.ConfigMap
				if json.Unmarshal(b, &cm) == nil && cm.Data != nil {
					stored <- cm
				}
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		background(t, e.Run)
		select {
		case <-e.Synced():
		case <-time.After(patience):
			t.Fatal("not synced")
		}
	}
	connect()
	if got := files(t, dir); len(got) != 2 || len(stored) != 1 {
		t.Fatalf("the edge has %q, want its pod and its ConfigMap, and %d ConfigMaps were told", got, len(stored))
	}
	<-stored
	changed := objects.ConfigMap("a", 3)
	for _, cm := range []*corev1.ConfigMap{objects.ConfigMap("foreign", 4), changed} {
		if _, err := client.CoreV1().ConfigMaps(objects.Namespace).Update(t.Context(), cm, metav1.UpdateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	select {
	case cm := <-stored:
		if cm.Name != "a" || cm.Data["settings.yaml"] != changed.Data["settings.yaml"] {
			t.Errorf("got %s with %q", cm.Name, cm.Data)
		}
	case <-time.After(patience):
		t.Fatal("the change did not come")
	}
	if err := client.CoreV1().ConfigMaps(objects.Namespace).Delete(t.Context(), "a", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	for begin := time.Now(); len(files(t, dir)) != 1; <-time.After(10 * time.Millisecond) {
		if time.Since(begin) > patience {
			t.Fatalf("the edge has %q after a deletion", files(t, dir))
		}
	}
	connect() // beside the first one, which does not mind
	if len(stored) != 0 {
		t.Errorf("%d changes more than were made", len(stored))
	}
}
