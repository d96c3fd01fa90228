package main

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/spf13/pflag"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/skerry-io/skerry/cloudproxy/enroll"
)

// apiTimeout bounds each request, so that a wrong address is not waited for.
const apiTimeout = 30 * time.Second

// cluster is how a command finds the Kubernetes API.
type cluster struct {
	kubeconfig, context, namespace string
	// patient is for requests that a device at the other end may take its time for.
	patient bool
	// connect and connectDynamic are replaced in tests.
	connect        func(cluster) (kubernetes.Interface, error)
	connectDynamic func(cluster) (dynamic.Interface, error)
}

func (c *cluster) addFlags(f *pflag.FlagSet) {
	f.StringVar(&c.kubeconfig, "kubeconfig", "", "kubeconfig `file`; default $KUBECONFIG, then ~/.kube/config")
	f.StringVar(&c.context, "context", "", "kubeconfig context; default the current one")
	f.StringVar(&c.namespace, "namespace", enroll.DefaultNamespace, "namespace of the cloud proxy")
}

func (c *cluster) client() (kubernetes.Interface, error) {
	if c.connect == nil {
		c.connect = connect
	}
	return c.connect(*c)
}

// dynamic is a client for objects of any kind.
func (c *cluster) dynamic() (dynamic.Interface, error) {
	if c.connectDynamic == nil {
		c.connectDynamic = connectDynamic
	}
	return c.connectDynamic(*c)
}

func connect(c cluster) (kubernetes.Interface, error) {
	cfg, err := restConfig(c)
	if err != nil {
		return nil, err
	}
	client, err := kubernetes.NewForConfig(cfg)
	if err != nil {
		return nil, fmt.Errorf("connect to the cluster: %w", err)
	}
	return client, nil
}

func connectDynamic(c cluster) (dynamic.Interface, error) {
	cfg, err := restConfig(c)
	if err != nil {
		return nil, err
	}
	client, err := dynamic.NewForConfig(cfg)
	if err != nil {
		return nil, fmt.Errorf("connect to the cluster: %w", err)
	}
	return client, nil
}

// contextNamespace is the one that kubectl would take.
func (c *cluster) contextNamespace() string {
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	rules.ExplicitPath = c.kubeconfig
	ns, _, err := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, &clientcmd.ConfigOverrides{CurrentContext: c.context}).Namespace()
	if err != nil || ns == "" {
		return "default"
	}
	return ns
}

// restConfig follows kubectl's rules for which file and context count.
func restConfig(c cluster) (*rest.Config, error) {
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	rules.ExplicitPath = c.kubeconfig
	cfg, err := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules,
		&clientcmd.ConfigOverrides{CurrentContext: c.context}).ClientConfig()
	if clientcmd.IsEmptyConfig(err) {
		return nil, fmt.Errorf("find the cluster: there is no kubeconfig (looked for %s); next: name a file with --kubeconfig", strings.Join(rules.Precedence, ", "))
	}
	if err != nil {
		return nil, fmt.Errorf("find the cluster: %w; next: name a file with --kubeconfig", err)
	}
	cfg.Timeout = apiTimeout
	out := io.Writer(os.Stderr)
	if c.patient {
		cfg.Timeout, out = 0, io.Discard
	}
	cfg.Wrap(func(next http.RoundTripper) http.RoundTripper { return &advisor{next: next, out: out} })
	cfg.QPS = -1 // `status` asks for each edge, and bounds what is under way itself
	cfg.UserAgent = "skerry/" + version
	return cfg, nil
}

// quietWait is how long a command waits for the cluster before it says so.
const quietWait = 3 * time.Second

// advisor says of a cluster that can't be reached, in whatever command, what helps,
// and once of one that takes its time that it is waited for.
type advisor struct {
	next http.RoundTripper
	out  io.Writer
	once sync.Once
}

// RoundTrip implements http.RoundTripper.
func (a *advisor) RoundTrip(r *http.Request) (*http.Response, error) {
	slow := time.AfterFunc(quietWait, func() {
		a.once.Do(func() {
			fmt.Fprintf(a.out, "waiting for the cluster at %s, which has not answered yet (at most %v a request)\n", r.URL.Host, apiTimeout)
		})
	})
	resp, err := a.next.RoundTrip(r)
	slow.Stop()
	if err != nil && r.Context().Err() == nil {
		err = fmt.Errorf("reach the cluster: %w; next: kubectl cluster-info, with the same --kubeconfig and --context", err)
	}
	return resp, err
}
