package main

import (
	"fmt"
	"time"

	"github.com/spf13/pflag"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/skerry-io/skerry/cloudproxy/enroll"
)

// apiTimeout bounds each request, so that a wrong address is not waited for.
const apiTimeout = 30 * time.Second

// cluster is how a command finds the Kubernetes API.
type cluster struct {
	kubeconfig, context, namespace string
	// connect is replaced in tests.
	connect func(cluster) (kubernetes.Interface, error)
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

// connect follows kubectl's rules for which file and context count.
func connect(c cluster) (kubernetes.Interface, error) {
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	rules.ExplicitPath = c.kubeconfig
	cfg, err := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules,
		&clientcmd.ConfigOverrides{CurrentContext: c.context}).ClientConfig()
	if err != nil {
		return nil, fmt.Errorf("find the cluster: %w; name a file with --kubeconfig", err)
	}
	cfg.Timeout = apiTimeout
	cfg.QPS = -1 // `status` asks for each edge, and bounds what is under way itself
	cfg.UserAgent = "skerry/" + version
	client, err := kubernetes.NewForConfig(cfg)
	if err != nil {
		return nil, fmt.Errorf("connect to the cluster: %w", err)
	}
	return client, nil
}
