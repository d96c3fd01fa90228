package main

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/duration"
	"k8s.io/client-go/kubernetes"

	"github.com/skerry-io/skerry/certs"
	"github.com/skerry-io/skerry/cloudproxy/enroll"
	"github.com/skerry-io/skerry/cloudproxy/enroll/rotation"
	"github.com/skerry-io/skerry/cloudproxy/report"
	"github.com/skerry-io/skerry/cloudproxy/standing"
)

func newCA() *cobra.Command {
	c := &cluster{}
	cmd := group("ca", "Show and rotate the CA of edges and proxies", newCAStatus(c), newCARotate(c))
	c.addFlags(cmd.PersistentFlags())
	return cmd
}

func newCAStatus(c *cluster) *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show the CA, how far its rotation is, and which edges hold it up",
		Long: `Show the CA's hash and end, how far a rotation is, and how the edges stand: which
of them have a certificate of the CA that counts, and which don't yet.

It needs the right to read the Secret skerry-ca, and so its key.`,
		Example: "  skerry ca status\n  skerry ca status -o json",
		Args:    usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if output != "" && output != "json" {
				return badUsage(cmd, "--output %q is not json", output)
			}
			client, err := c.client()
			if err != nil {
				return err
			}
			state, err := readCA(cmd.Context(), client, c.namespace)
			if err != nil {
				return err
			}
			count, err := countEdges(cmd.Context(), client, c.namespace, state)
			if err != nil {
				return err
			}
			st := caStatusOf(state, count)
			if output == "json" {
				enc := json.NewEncoder(cmd.OutOrStdout())
				enc.SetIndent("", "  ")
				return enc.Encode(st)
			}
			return st.print(cmd.OutOrStdout(), time.Now())
		},
	}
	cmd.Flags().StringVarP(&output, "output", "o", "", "json, or text when empty")
	return cmd
}

// readCA reads the CA's Secret.
func readCA(ctx context.Context, client kubernetes.Interface, namespace string) (*rotation.State, error) {
	secret, err := client.CoreV1().Secrets(namespace).Get(ctx, rotation.SecretName, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil, fmt.Errorf("there is no Secret %s/%s: the cloud proxy makes it at its first start; is it running, and is --namespace right?",
			namespace, rotation.SecretName)
	}
	if err != nil {
		return nil, fmt.Errorf("read the CA: %w", err)
	}
	state, err := rotation.Parse(secret)
	if err != nil {
		return nil, fmt.Errorf("secret %s/%s: %w", namespace, rotation.SecretName, err)
	}
	return state, nil
}

// edgeCount is how the edges stand with the CAs.
type edgeCount struct {
	// Edges are all that are not revoked.
	Edges int `json:"edges"`
	// Trusting trust all that they are to trust, Moved have a certificate of the CA that
	// signs now; the others are named.
	Trusting int `json:"trusting"`
	Moved    int `json:"moved"`
	// Connected and Offline are those that have not moved, or do not trust all yet.
	Connected []string `json:"connected,omitempty"`
	Offline   []string `json:"offline,omitempty"`
	// Unmoved are those of both that have not moved, Unknown those of them of whose key
	// nothing is known: they can't renew once their CA is gone.
	Unmoved []string `json:"unmoved,omitempty"`
	Unknown []string `json:"unknown,omitempty"`
	Revoked int      `json:"revoked"`
}

func countEdges(ctx context.Context, client kubernetes.Interface, namespace string, state *rotation.State) (edgeCount, error) {
	var n edgeCount
	nodes, err := (&query{client: client}).nodes(ctx)
	if err != nil {
		return n, err
	}
	revoked, err := enroll.ReadRevocations(ctx, client, namespace)
	if err != nil {
		return n, err
	}
	news := state.News()
	for i := range nodes {
		node := &nodes[i]
		note, err := standing.ReadNote(node)
		if until, ok := revoked[node.Name]; ok && !note.Joined.After(until) {
			n.Revoked++
			continue
		}
		n.Edges++
		moved, trusts := note.CA == news.Signer, certs.SameSet(note.Trusts, news.Trusted)
		// A certificate of the only CA there ever was says that it is trusted as well.
		trusts = trusts || !state.Rotated() && moved
		if moved {
			n.Moved++
		} else {
			n.Unmoved = append(n.Unmoved, node.Name)
		}
		if trusts {
			n.Trusting++
		}
		if err != nil {
			n.Unknown = append(n.Unknown, node.Name)
		}
		if moved && trusts {
			continue
		}
		if _, offline := report.OfflineSince(node); offline {
			n.Offline = append(n.Offline, node.Name)
		} else {
			n.Connected = append(n.Connected, node.Name)
		}
	}
	return n, nil
}

// caStatus is what -o json prints.
type caStatus struct {
	// Phase is idle, trust or move.
	Phase   string    `json:"phase"`
	CA      caFacts   `json:"ca"`
	Next    *caFacts  `json:"next,omitempty"`
	Retired []caFacts `json:"retired,omitempty"`
	edgeCount
}

type caFacts struct {
	Hash      string    `json:"hash"`
	NotBefore time.Time `json:"notBefore"`
	NotAfter  time.Time `json:"notAfter"`
}

func caStatusOf(state *rotation.State, n edgeCount) caStatus {
	facts := func(c *x509.Certificate) caFacts {
		return caFacts{certs.HashCA(c).String(), c.NotBefore.UTC(), c.NotAfter.UTC()}
	}
	st := caStatus{Phase: string(state.Phase), CA: facts(state.CA.Certificate()), edgeCount: n}
	if state.Phase == rotation.Idle {
		st.Phase = "idle"
	}
	if state.Next != nil {
		next := facts(state.Next.Certificate())
		st.Next = &next
	}
	for _, c := range state.Retired {
		st.Retired = append(st.Retired, facts(c))
	}
	return st
}

func (st *caStatus) print(w io.Writer, now time.Time) error {
	const minWidth, tabWidth, padding = 0, 8, 3
	tw := tabwriter.NewWriter(w, minWidth, tabWidth, padding, ' ', 0)
	fmt.Fprintln(tw, "CA\tHASH\tEXPIRES")
	line := func(what string, f caFacts) {
		end := "in " + duration.HumanDuration(f.NotAfter.Sub(now))
		if now.After(f.NotAfter) {
			end = "expired " + duration.HumanDuration(now.Sub(f.NotAfter)) + " ago"
		}
		fmt.Fprintf(tw, "%s\t%s\t%s (%s)\n", what, f.Hash, f.NotAfter.Format(time.RFC3339), end)
	}
	line("present", st.CA)
	if st.Next != nil {
		line("next", *st.Next)
	}
	for _, f := range st.Retired {
		line("retired", f)
	}
	if err := tw.Flush(); err != nil {
		return err
	}
	phase := map[string]string{
		"idle":  "no rotation is under way",
		"trust": "a rotation is under way: edges come to trust the new CA; next is 'skerry ca rotate --step move'",
		"move":  "a rotation is under way: edges get certificates of the new CA; next is 'skerry ca rotate --step drop'",
	}[st.Phase]
	_, err := fmt.Fprintf(w, "\n%s\n%s\n", phase, st.edgeCount.String())
	return err
}

// String is one line about the edges.
func (n *edgeCount) String() string {
	s := fmt.Sprintf("%d of %d edges trust what they should, %d have a certificate of the CA that signs", n.Trusting, n.Edges, n.Moved)
	if n.Revoked > 0 {
		s += fmt.Sprintf("; %d are revoked", n.Revoked)
	}
	if len(n.Connected) > 0 {
		s += "; connected, not yet in line: " + names(n.Connected)
	}
	if len(n.Offline) > 0 {
		s += "; offline: " + names(n.Offline)
	}
	return s
}

// names lists some.
func names(list []string) string {
	const most = 10
	list = slices.Sorted(slices.Values(list))
	if len(list) <= most {
		return strings.Join(list, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(list[:most], ", "), len(list)-most)
}
