package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/skerry-io/skerry/certs"
	"github.com/skerry-io/skerry/cloudproxy/enroll"
	"github.com/skerry-io/skerry/cloudproxy/enroll/jointoken"
)

type tokenCreate struct {
	cluster     *cluster
	ttl         time.Duration
	node        string
	uses        int
	server      string
	description string
	output      string
}

func newTokenCreate(c *cluster) *cobra.Command {
	o := &tokenCreate{cluster: c}
	cmd := &cobra.Command{
		Use:   "create",
		Short: "Make a join token and print the whole join command",
		Long: `Make a join token and print, on standard output, the whole command that joins a
machine. The token is good for one machine unless --uses says otherwise: one that
leaks from a shell history or a chat after it was used is worth nothing. For a
fleet from one image use --uses N, or --uses 0 for no limit within its time.`,
		Example: `  # one machine, any name, one day
  skerry token create

  # one machine of this name, one hour
  skerry token create --node press-07 --ttl 1h

  # a batch of 40, for a script
  skerry token create --uses 40 --ttl 8h --description "hall 3" -o json

  # join over SSH, the token in no argument list
  skerry token create -o json | jq -r .token | ssh root@press-07 \
    skerry join proxy.example.com:7443 --token-file - --ca-hash sha256:...`,
		Args: usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error { return o.run(cmd) },
	}
	f := cmd.Flags()
	f.DurationVar(&o.ttl, "ttl", 24*time.Hour, "how long the token is good")
	f.StringVar(&o.node, "node", "", "the only node `name` it is good for; default any")
	f.IntVar(&o.uses, "uses", 1, "how many machines it joins; 0 means no limit")
	f.StringVar(&o.server, "server", "", "`HOST:PORT` that the machine dials; default what the cloud proxy advertises")
	f.StringVar(&o.description, "description", "", "a note for the list")
	f.StringVarP(&o.output, "output", "o", "", "json, or the join command when empty")
	return cmd
}

func (o *tokenCreate) check(cmd *cobra.Command) error {
	const longest = 10 * 365 * 24 * time.Hour // beyond it somebody means "for ever"
	switch {
	case o.ttl < time.Minute || o.ttl > longest:
		return badUsage(cmd, "--ttl %s is not between 1m and %s: a token must end some day", o.ttl, longest)
	case o.uses < 0:
		return badUsage(cmd, "--uses %d is negative; 0 means no limit", o.uses)
	case o.output != "" && o.output != "json":
		return badUsage(cmd, "--output %q is not json", o.output)
	}
	if o.node != "" {
		if err := certs.ValidateNodeName(o.node); err != nil {
			return badUsage(cmd, "--node: %w", err)
		}
	}
	if o.server != "" {
		if host, port, err := net.SplitHostPort(o.server); err != nil || host == "" || port == "" {
			return badUsage(cmd, "--server %q is not HOST:PORT", o.server)
		}
	}
	return nil
}

// created is what -o json prints.
type created struct {
	Token    string          `json:"token"`
	Server   string          `json:"server"`
	CAHash   string          `json:"caHash"`
	Command  string          `json:"command"`
	Metadata jointoken.Grant `json:"metadata"`
}

func (o *tokenCreate) run(cmd *cobra.Command) error {
	if err := o.check(cmd); err != nil {
		return err
	}
	ctx := cmd.Context()
	client, err := o.cluster.client()
	if err != nil {
		return err
	}
	info, err := enroll.ReadInfo(ctx, client, o.cluster.namespace)
	if apierrors.IsNotFound(err) {
		return fmt.Errorf("%w: the cloud proxy writes it at its first start; is it running, and is --namespace right?", err)
	}
	if err != nil {
		return err
	}
	hash, err := info.CAHash()
	if err != nil {
		return err
	}
	server := info.Server
	if o.server != "" {
		server = o.server
	}
	if server == "" {
		return errors.New("the cloud proxy advertises no address; say --server HOST:PORT")
	}
	token := jointoken.Generate()
	grant := jointoken.Grant{
		ID: token.ID, Description: o.description, Node: o.node, Expires: time.Now().Add(o.ttl).Truncate(time.Second),
		Limited: o.uses > 0, UsesLeft: o.uses,
	}
	secret, err := jointoken.NewSecret(token, grant)
	if err != nil {
		return err
	}
	// No retry with another ID: a clash of 36^6 IDs is rarer than a second run is dear.
	if _, err := client.CoreV1().Secrets(jointoken.Namespace).Create(ctx, secret, metav1.CreateOptions{}); err != nil {
		return fmt.Errorf("create token: %w", err)
	}
	return o.print(cmd.OutOrStdout(), created{
		Token: token.Reveal(), Server: server, CAHash: hash.String(), Metadata: grant,
		Command: joinLine(server, token, hash, o.node),
	})
}

func (o *tokenCreate) print(w io.Writer, c created) error {
	if o.output == "json" {
		enc := json.NewEncoder(w)
		enc.SetIndent("", "  ")
		return enc.Encode(c)
	}
	_, err := fmt.Fprintln(w, c.Command)
	return err
}

func joinLine(server string, token jointoken.Token, hash certs.CAHash, node string) string {
	s := fmt.Sprintf("skerry join %s --token %s --ca-hash %s", server, token.Reveal(), hash)
	if node != "" {
		s += " --node-name " + node
	}
	return s
}
