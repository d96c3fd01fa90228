package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/skerry-io/skerry/devices/onboard"
	"github.com/skerry-io/skerry/devices/survey"
	"github.com/skerry-io/skerry/devices/v1alpha1"
)

// opcuaServer is how to reach a server of OPC UA that is no Device yet.
type opcuaServer struct {
	node, url    string
	policy, mode string
	noSecurity   bool
	userSecret   string
	trust        []string
	trustSecret  string
	root         string
	maxNodes     int
}

func (o *opcuaServer) addFlags(f *pflag.FlagSet) {
	f.StringVar(&o.node, "node", "", "edge that reaches the device (required)")
	f.StringVar(&o.url, "url", "", "OPC UA server, opc.tcp://HOST:PORT/PATH, as the edge reaches it")
}

func (o *opcuaServer) addSessionFlags(f *pflag.FlagSet) {
	f.StringVar(&o.policy, "security-policy", "", "Basic256Sha256, Aes128Sha256RsaOaep or Aes256Sha256RsaPss; default the best that the server offers")
	f.StringVar(&o.mode, "security-mode", "", "Sign or SignAndEncrypt; default the best that the server offers")
	f.BoolVar(&o.noSecurity, "no-security", false, "talk to the server without signatures and encryption")
	f.StringVar(&o.userSecret, "user-secret", "", "Secret with username and password, or tls.crt and tls.key; default anonymous")
	f.StringSliceVar(&o.trust, "trust", nil, "SHA-256 fingerprint of the server's certificate, once you have compared it; can be repeated")
	f.StringVar(&o.trustSecret, "trust-secret", "", "Secret with ca.crt, and ca.crl, of who has signed the server's certificate")
	f.StringVar(&o.root, "root", "", "node to begin at, such as nsu=http://vendor/;s=Line1; default all objects")
	f.IntVar(&o.maxNodes, "max-nodes", survey.DefaultNodes, fmt.Sprintf("nodes to find at most, up to %d", survey.MaxNodes))
}

// check refuses what can't be, before anybody is asked.
func (o *opcuaServer) check(cmd *cobra.Command) error {
	switch {
	case o.node == "":
		return badUsage(cmd, "--node is required: which edge reaches the device? 'skerry status' lists edges")
	case o.url != "" && !strings.HasPrefix(o.url, "opc.tcp://"):
		return badUsage(cmd, "--url %q is none of opc.tcp://HOST:PORT/PATH", o.url)
	case o.noSecurity && (o.policy != "" || o.mode != ""):
		return badUsage(cmd, "--no-security excludes --security-policy and --security-mode")
	case o.maxNodes < 0 || o.maxNodes > survey.MaxNodes:
		return badUsage(cmd, "--max-nodes %d is not within 1 and %d", o.maxNodes, survey.MaxNodes)
	}
	return nil
}

// spec is the server as a Device has it, with the Secrets that it names.
func (o *opcuaServer) spec(ctx context.Context, d *devices) (*v1alpha1.OPCUA, map[string]map[string][]byte, error) {
	out := &v1alpha1.OPCUA{URL: o.url, SecurityPolicy: v1alpha1.SecurityPolicy(o.policy), SecurityMode: v1alpha1.SecurityMode(o.mode)}
	if o.noSecurity {
		out.SecurityPolicy, out.SecurityMode = v1alpha1.PolicyNone, v1alpha1.ModeNone
	}
	secrets := map[string]map[string][]byte{}
	read := func(name string) (map[string][]byte, error) {
		client, err := d.client()
		if err != nil {
			return nil, err
		}
		s, err := client.CoreV1().Secrets(d.namespace).Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return nil, fmt.Errorf("read Secret %s in namespace %s: %w", name, d.namespace, err)
		}
		secrets[name] = s.Data
		return s.Data, nil
	}
	if o.userSecret != "" {
		data, err := read(o.userSecret)
		if err != nil {
			return nil, nil, err
		}
		out.User = &v1alpha1.OPCUAUser{Type: v1alpha1.UserName, SecretName: o.userSecret}
		switch {
		case len(data["username"]) > 0:
		case len(data["tls.crt"]) > 0:
			out.User.Type = v1alpha1.UserCertificate
		default:
			return nil, nil, fmt.Errorf("secret %s has neither username nor tls.crt", o.userSecret)
		}
	}
	if len(o.trust) > 0 || o.trustSecret != "" {
		out.Trust = &v1alpha1.OPCUATrust{SecretName: o.trustSecret}
		for _, f := range o.trust {
			out.Trust.Fingerprints = append(out.Trust.Fingerprints, plainFingerprint(f))
		}
		if o.trustSecret != "" {
			if _, err := read(o.trustSecret); err != nil {
				return nil, nil, err
			}
		}
	}
	return out, secrets, nil
}

// plainFingerprint takes colons and case out.
func plainFingerprint(f string) string {
	return strings.ToLower(strings.NewReplacer(":", "", " ", "").Replace(strings.TrimSpace(f)))
}

// browse asks the edge what a server has. Its progress goes to errors.
func (o *opcuaServer) browse(ctx context.Context, d *devices, server *v1alpha1.OPCUA, secrets map[string]map[string][]byte, errs io.Writer) (onboard.Found, error) {
	body := survey.BrowseRequest{OPCUA: *server, Secrets: secrets, Root: o.root, MaxNodes: o.maxNodes}
	stream, err := d.streamEdge(ctx, o.node, survey.PathBrowse, url.Values{"url": {o.url}}, body)
	if err != nil {
		return onboard.Found{}, err
	}
	defer stream.Close() //nolint:errcheck // it was read
	found, err := onboard.ReadFound(stream, func(p survey.Progress) {
		switch p.Doing {
		case "connect":
			fmt.Fprintf(errs, "edge %s connects to %s\n", o.node, o.url)
		case "browse":
			fmt.Fprintf(errs, "%d nodes found\n", p.Nodes)
		case "types":
			fmt.Fprintln(errs, "reading types")
		}
	})
	if end, ok := errors.AsType[*onboard.EndError](err); ok {
		if end.Fingerprint != "" {
			return found, fmt.Errorf("edge %s does not trust the server: %w; next: compare the SHA-256 fingerprint with the server's own, and add --trust %s", o.node, err, end.Fingerprint)
		}
		return found, fmt.Errorf("edge %s: %w", o.node, err)
	}
	if err != nil {
		return found, fmt.Errorf("edge %s: %w", o.node, err)
	}
	if found.Truncated {
		fmt.Fprintf(errs, "Warning: the server has more than %d nodes; --max-nodes takes more, --root begins further down\n", o.maxNodes)
	}
	return found, nil
}
