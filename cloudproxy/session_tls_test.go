package cloudproxy

import (
	"context"
	"crypto/tls"
	"testing"
	"testing/synctest"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"

	"github.com/skerry-io/skerry/certs"
	"github.com/skerry-io/skerry/certs/issuer"
	"github.com/skerry-io/skerry/cloudproxy/enroll"
	"github.com/skerry-io/skerry/cloudproxy/enroll/rotation"
)

// TestSessionTLS: a listener that runs takes edges of the new CA once there is one, and
// those of the old one until that is gone.
func TestSessionTLS(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client := fake.NewClientset(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "kube-system", UID: "cluster"}})
		svc, err := enroll.New(enroll.Config{Client: client, Advertise: []string{"a:1"}})
		must(t, err)
		must(t, svc.Prepare(t.Context()))
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- svc.Run(ctx) }()
		synctest.Wait()
		listening, err := (&sessionTLS{enroll: svc}).config()
		must(t, err)
		now := func() *tls.Config {
			conf, err := listening.GetConfigForClient(nil)
			must(t, err)
			return conf
		}
		step := func(f func(*rotation.State) (*rotation.State, error)) {
			secrets := client.CoreV1().Secrets(enroll.DefaultNamespace)
			secret, err := secrets.Get(t.Context(), rotation.SecretName, metav1.GetOptions{})
			must(t, err)
			state, err := rotation.Parse(secret)
			must(t, err)
			state, err = f(state)
			must(t, err)
			must(t, state.Fill(secret))
			_, err = secrets.Update(t.Context(), secret, metav1.UpdateOptions{})
			must(t, err)
			synctest.Wait()
		}
		if got := ends(t, svc); got != float64(svc.CA().Certificate().NotAfter.Unix()) {
			t.Errorf("the CA ends %v", got)
		}
		old := svc.CA()
		next, err := issuer.NewCA("cluster")
		must(t, err)
		first := now()
		if now() != first || !first.ClientCAs.Equal(old.Pool()) {
			t.Error("made anew for each handshake, or with other CAs")
		}
		step(func(s *rotation.State) (*rotation.State, error) { return s.Add(next, false) })
		step((*rotation.State).Move)
		if !now().ClientCAs.Equal(certs.Pool(svc.State().Trusted())) {
			t.Error("edges of both are not let in while both count")
		}
		step(func(s *rotation.State) (*rotation.State, error) { return s.Drop(false) })
		if !now().ClientCAs.Equal(next.Pool()) {
			t.Error("edges of the old one are let in when it is gone")
		}
		cancel()
		<-done
	})
}

// ends is what the metric says.
func ends(t *testing.T, svc *enroll.Service) float64 {
	t.Helper()
	r := prometheus.NewRegistry()
	must(t, r.Register(newCAMetrics(svc)))
	all, err := r.Gather()
	must(t, err)
	return all[0].GetMetric()[0].GetGauge().GetValue()
}
