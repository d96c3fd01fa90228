package desired

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"
)

// TestOptional: an API that the cluster does not serve, or lets this proxy not read,
// holds nobody up, and is watched when it comes; then what streams want of it is looked
// at, and what edges hold. Until then nothing of it is taken away.
func TestOptional(t *testing.T) {
	notFound := apierrors.NewNotFound(schema.GroupResource{}, "")
	forbidden := apierrors.NewForbidden(schema.GroupResource{Resource: "services"}, "", errors.New("old roles"))
	for _, tt := range []struct {
		plural string
		error  error
		pause  time.Duration
		key    string
		held   []string // what the edge holds of it, used or not
		users  []string
		looks  []string // keys looked at when it is known
	}{
		{"clustertrustbundles", notFound, unservedPause, "clustertrustbundles/ca", []string{"clustertrustbundles/ca"}, []string{"clustertrustbundles/ca"}, []string{"clustertrustbundles/ca"}},
		{
			"clustertrustbundles", notFound, unservedPause, "clustertrustbundles/of-signer",
			[]string{"clustertrustbundles/of-signer"},
			[]string{"signers/x"},
			[]string{"clustertrustbundles/of-signer", "follow/signers/x"},
		},
		{
			"podcertificaterequests", notFound, unservedPause, "podcertificaterequests/ns/answer",
			[]string{"podcertificaterequests/ns/answer"},
			[]string{"podcertificaterequests/ns/answer", "nodes/e1"},
			[]string{"nodes/e1", "podcertificaterequests/ns/answer"},
		},
		{
			"podcertificaterequests", forbidden, maxRetry, "podcertificaterequests/ns/other",
			[]string{"podcertificaterequests/ns/other"},
			[]string{"podcertificaterequests/ns/other", "nodes/e1"},
			[]string{"nodes/e1", "podcertificaterequests/ns/other"},
		},
		{"services", forbidden, maxRetry, "servicelinks/ns", []string{"servicelinks/ns", "services/default/kubernetes", "pods/ns/p"}, nil, []string{"servicelinks/ns", "services/default/kubernetes"}},
	} {
		t.Run(tt.key, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				client := fake.NewSimpleClientset()
				var served atomic.Bool
				client.PrependReactor("list", tt.plural, func(clienttesting.Action) (bool, runtime.Object, error) {
					return !served.Load(), nil, tt.error
				})
				p, err := New(Config{Client: client})
				if err != nil {
					t.Fatal(err)
				}
				if _, known := p.CertificateRequests("u"); known {
					t.Error("requests for certificates are known before any list")
				}
				ctx, cancel := context.WithCancel(t.Context())
				ended := make(chan error)
				go func() { ended <- p.Run(ctx) }()
				<-p.Ready()
				s := newStream(p, "e1", nil)
				p.attach(s)
				for _, key := range tt.held {
					s.setVersion(key, "what the edge holds")
				}
				for _, key := range tt.users {
					s.users[key] = 1
					p.use(key, s)
				}
				if err := s.lookAtNamed(tt.key); err != nil {
					t.Fatal(err)
				}
				if _, held := s.version(tt.key); !held {
					t.Error("taken away, of what is not known")
				}
				if _, known := p.CertificateRequests("u"); known == (tt.plural == "podcertificaterequests") {
					t.Errorf("requests for certificates are known: %v", known)
				}
				served.Store(true)
				<-time.After(tt.pause)
				synctest.Wait()
				if _, known := p.CertificateRequests("u"); !known {
					t.Error("requests for certificates are not known, and listed")
				}
				var looks []string
				for key, ok := s.next(); ok; key, ok = s.next() {
					looks = append(looks, key)
				}
				if slices.Sort(looks); !slices.Equal(looks, tt.looks) {
					t.Errorf("%q are to be looked at, want %q", looks, tt.looks)
				}
				cancel()
				if err := <-ended; err != nil {
					t.Error(err)
				}
			})
		})
	}
}
