package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/util/retry"

	"github.com/skerry-io/skerry/certs/issuer"
	"github.com/skerry-io/skerry/cloudproxy/enroll"
	"github.com/skerry-io/skerry/cloudproxy/enroll/rotation"
)

const (
	// rotateLook is how often the edges are counted; a proxy writes how they stand
	// within ten seconds.
	rotateLook = 3 * time.Second
	// rotateSettle is what replicas get to follow a step before the next, which takes
	// them a second while kube-apiserver answers.
	rotateSettle = 10 * time.Second
)

// The steps of a rotation.
const (
	stepAdd     = "add"
	stepMove    = "move"
	stepDrop    = "drop"
	stepAbandon = "abandon"
)

type caRotate struct {
	cluster       *cluster
	step          string
	force         bool
	distrust      bool
	certFile      string
	keyFile       string
	timeout       time.Duration
	look, settles time.Duration // shorter in tests
}

func newCARotate(c *cluster) *cobra.Command {
	o := &caRotate{cluster: c, look: rotateLook, settles: rotateSettle}
	cmd := &cobra.Command{
		Use:   "rotate",
		Short: "Put a new CA in the place of the old one, with no edge cut off",
		Long: `Put a new CA in the place of the old one. No session ends, and nobody has to visit an
edge. It goes in three steps, each of which waits for the edges:

  add    the new CA goes beside the old one, and edges come to trust both
  move   edges get certificates of the new CA
  drop   the old CA and its key go; proxies show certificates of the new one

Without --step all three are done, from where an earlier run stopped: Ctrl-C is safe.
The old CA is not dropped while edges that are not revoked have no certificate of the new
one: bring them back, revoke them, or say --force. Those that are forced out of line, or
were off, get in later by their old key, as long as their certificate can be renewed
(--edge-renewal-grace of the cloud proxy), because the old CA has named the new one.

When somebody else may have the old CA's key, say --distrust at the drop: then no
certificate of it is renewed any more, and edges that have not moved have to join again.

A CA that an operator brought is replaced only by another of that sort: --ca-cert and
--ca-key are files in PEM form, the key ECDSA P-256 or P-384.

Join commands that were printed before the drop no longer work after it: they pin the old
CA. 'skerry token create' prints new ones.`,
		Example: `  # all of it
  skerry ca rotate

  # step by step, with a look at the edges in between
  skerry ca rotate --step add
  skerry ca status
  skerry ca rotate --step move
  skerry ca rotate --step drop

  # a CA of one's own
  skerry ca rotate --ca-cert new-ca.crt --ca-key new-ca.key

  # changed one's mind after add
  skerry ca rotate --step abandon`,
		Args: usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error { return o.run(cmd) },
	}
	f := cmd.Flags()
	f.StringVar(&o.step, "step", "", "only this one: add, move, drop or abandon; all that are left when empty")
	f.BoolVar(&o.force, "force", false, "drop the old CA though edges have not moved, and replace a CA that an operator brought by a new one of ours")
	f.BoolVar(&o.distrust, "distrust", false, "renew no certificate of the old CA from the drop on")
	f.StringVar(&o.certFile, "ca-cert", "", "`file` with the new CA's certificate; one is made when empty")
	f.StringVar(&o.keyFile, "ca-key", "", "`file` with its key")
	f.DurationVar(&o.timeout, "timeout", 10*time.Minute, "how long to wait for edges in each step; 0 means not at all")
	return cmd
}

func (o *caRotate) check(cmd *cobra.Command) error {
	switch {
	case !slices.Contains([]string{"", stepAdd, stepMove, stepDrop, stepAbandon}, o.step):
		return badUsage(cmd, "--step %q is not add, move, drop or abandon", o.step)
	case (o.certFile == "") != (o.keyFile == ""):
		return badUsage(cmd, "--ca-cert and --ca-key go together")
	case o.timeout < 0:
		return badUsage(cmd, "--timeout %s is negative", o.timeout)
	}
	return nil
}

func (o *caRotate) run(cmd *cobra.Command) error {
	if err := o.check(cmd); err != nil {
		return err
	}
	client, err := o.cluster.client()
	if err != nil {
		return err
	}
	r := &rotating{caRotate: o, client: client, out: cmd.OutOrStdout()}
	ctx := cmd.Context()
	state, err := readCA(ctx, client, o.cluster.namespace)
	if err != nil {
		return err
	}
	if o.step == stepAbandon {
		if err := r.write(ctx, (*rotation.State).Abandon); err != nil {
			return err
		}
		fmt.Fprintln(r.out, "the new CA is gone, and everything is as it was")
		return nil
	}
	if o.certFile != "" && state.Phase != rotation.Idle {
		return fmt.Errorf("a rotation is under way already, with another CA; end it (skerry ca rotate), or --step abandon it")
	}
	if (o.step == stepAdd || o.step == "") && state.Phase == rotation.Idle {
		if err := r.add(ctx, state); err != nil {
			return err
		}
	} else if o.step == stepAdd {
		return &rotation.PhaseError{Phase: state.Phase}
	}
	if o.step == stepMove || o.step == "" && state.Phase != rotation.Move {
		if err := r.move(ctx); err != nil {
			return err
		}
	}
	if o.step == stepDrop || o.step == "" {
		return r.drop(ctx)
	}
	return nil
}

// rotating is one run.
type rotating struct {
	*caRotate

	client kubernetes.Interface
	out    io.Writer
}

// errBrought is about a CA that we did not make.
var errBrought = errors.New("the CA was brought by an operator: give the new one by --ca-cert and --ca-key, or say --force for one that is made here")

func (r *rotating) add(ctx context.Context, state *rotation.State) error {
	var next *issuer.CA
	switch {
	case r.certFile != "":
		cert, err := os.ReadFile(r.certFile)
		if err != nil {
			return fmt.Errorf("--ca-cert: %w", err)
		}
		key, err := os.ReadFile(r.keyFile)
		if err != nil {
			return fmt.Errorf("--ca-key: %w", err)
		}
		if next, err = issuer.ParseCA(cert, key); err != nil {
			return fmt.Errorf("--ca-cert, --ca-key: %w", err)
		}
		if end := next.Certificate().NotAfter; time.Until(end) < issuer.DefaultTTL {
			return fmt.Errorf("--ca-cert: it ends %s, which is sooner than the certificates that it is to sign", end.UTC().Format(time.RFC3339))
		}
	case state.Brought && !r.force:
		return errBrought
	default:
		info, err := enroll.ReadInfo(ctx, r.client, r.cluster.namespace)
		if err != nil {
			return err
		}
		if next, err = issuer.NewCA(info.Cluster); err != nil {
			return err
		}
	}
	before, err := countEdges(ctx, r.client, r.cluster.namespace, state)
	if err != nil {
		return err
	}
	if err := r.write(ctx, func(s *rotation.State) (*rotation.State, error) { return s.Add(next, r.certFile != "") }); err != nil {
		return err
	}
	fmt.Fprintf(r.out, "1/3 the new CA %s is beside the old one %s; %d edges are told\n", next.Hash(), state.CA.Hash(), before.Edges)
	return r.wait(ctx, "trust both", inLine)
}

// inLine reports that all edges that are connected are: nobody waits for the others.
func inLine(n *edgeCount) bool { return len(n.Connected) == 0 }

func (r *rotating) move(ctx context.Context) error {
	// Replicas that have not heard of the new CA yet would refuse its certificates.
	if err := pause(ctx, r.settles); err != nil {
		return err
	}
	if err := r.write(ctx, (*rotation.State).Move); err != nil {
		return err
	}
	fmt.Fprintln(r.out, "2/3 edges get certificates of the new CA")
	return r.wait(ctx, "have moved", inLine)
}

func (r *rotating) drop(ctx context.Context) error {
	state, err := readCA(ctx, r.client, r.cluster.namespace)
	if err != nil {
		return err
	}
	if state.Phase != rotation.Move {
		return &rotation.PhaseError{Phase: state.Phase}
	}
	n, err := countEdges(ctx, r.client, r.cluster.namespace, state)
	if err != nil {
		return err
	}
	if len(n.Unmoved) > 0 && !r.force {
		forced := "they then get in later by their old key"
		if r.distrust {
			forced = "they then have to join again, since --distrust renews no certificate of the old CA"
		}
		return fmt.Errorf("the old CA stays: %d of %d edges have no certificate of the new one yet: %s. Both are good meanwhile. "+
			"Bring them back and run this again, take them out ('skerry revoke', or delete their Nodes), or say --force: %s",
			len(n.Unmoved), n.Edges, names(n.Unmoved), forced)
	}
	if unknown := intersect(n.Unmoved, n.Unknown); len(unknown) > 0 {
		fmt.Fprintf(r.out, "Warning: of %s no key is known, so they will need a new token\n", names(unknown))
	}
	if err := r.write(ctx, func(s *rotation.State) (*rotation.State, error) { return s.Drop(r.distrust) }); err != nil {
		return err
	}
	fmt.Fprintf(r.out, "3/3 the old CA is gone, %s has taken its place; join commands from before need a new 'skerry token create'\n", state.Next.Hash())
	return r.wait(ctx, "trust the new one alone", inLine)
}

func intersect(a, b []string) []string {
	return slices.DeleteFunc(slices.Clone(a), func(s string) bool { return !slices.Contains(b, s) })
}

// write does one step of the Secret.
func (r *rotating) write(ctx context.Context, step func(*rotation.State) (*rotation.State, error)) error {
	secrets := r.client.CoreV1().Secrets(r.cluster.namespace)
	err := retry.OnError(retry.DefaultBackoff, apierrors.IsConflict, func() error {
		secret, err := secrets.Get(ctx, rotation.SecretName, metav1.GetOptions{})
		if err != nil {
			return err
		}
		state, err := rotation.Parse(secret)
		if err != nil {
			return err
		}
		if state, err = step(state); err != nil {
			return err
		}
		secret = secret.DeepCopy()
		if err := state.Fill(secret); err != nil {
			return err
		}
		_, err = secrets.Update(ctx, secret, metav1.UpdateOptions{})
		return err
	})
	if err != nil {
		return fmt.Errorf("change secret %s/%s: %w", r.cluster.namespace, rotation.SecretName, err)
	}
	return nil
}

// wait counts edges until enough are as far, and tells what changes.
func (r *rotating) wait(ctx context.Context, what string, enough func(*edgeCount) bool) error {
	if r.timeout == 0 {
		return nil
	}
	end := time.Now().Add(r.timeout)
	last := ""
	for {
		if err := pause(ctx, r.look); err != nil {
			return err
		}
		state, err := readCA(ctx, r.client, r.cluster.namespace)
		if err != nil {
			return err
		}
		n, err := countEdges(ctx, r.client, r.cluster.namespace, state)
		if err != nil {
			return err
		}
		if line := n.String(); line != last {
			fmt.Fprintln(r.out, "    "+line)
			last = line
		}
		if enough(&n) {
			return nil
		}
		if time.Now().After(end) {
			if r.force {
				fmt.Fprintf(r.out, "Warning: after %s not all connected edges %s: %s\n", r.timeout, what, names(n.Connected))
				return nil
			}
			return fmt.Errorf("after %s not all connected edges %s: %s. Nothing is lost: their logs say why, and 'skerry ca rotate' goes on from here", r.timeout, what, names(n.Connected))
		}
	}
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return fmt.Errorf("interrupted; 'skerry ca rotate' goes on from here: %w", ctx.Err())
	}
}
