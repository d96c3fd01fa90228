package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/skerry-io/skerry/cloudproxy/enroll/jointoken"
)

func newTokenDelete(c *cluster) *cobra.Command {
	return &cobra.Command{
		Use:     "delete ID...",
		Aliases: []string{"rm"},
		Short:   "Delete join tokens",
		Long: `Delete join tokens by their IDs. Machines that joined with them stay joined; see
'skerry revoke' for those.`,
		Example: "  skerry token delete abcdef",
		Args:    usageArgs(cobra.MinimumNArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			for i, arg := range args {
				// A whole token is taken too: it is what people have at hand.
				args[i], _, _ = strings.Cut(arg, ".")
				if !jointoken.ValidID(args[i]) {
					return badUsage(cmd, "%q is not a token's ID: six lower-case letters and digits", args[i])
				}
			}
			client, err := c.client()
			if err != nil {
				return err
			}
			var errs []error
			for _, id := range args {
				if err := deleteToken(cmd.Context(), client, id); err != nil {
					errs = append(errs, err)
					continue
				}
				fmt.Fprintln(cmd.OutOrStdout(), "token "+id+" deleted")
			}
			return errors.Join(errs...)
		},
	}
}

// deleteToken leaves bootstrap tokens that are not ours alone.
func deleteToken(ctx context.Context, client kubernetes.Interface, id string) error {
	secrets := client.CoreV1().Secrets(jointoken.Namespace)
	secret, err := secrets.Get(ctx, jointoken.SecretName(id), metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return fmt.Errorf("there is no token %s; see 'skerry token list'", id)
	}
	if err != nil {
		return fmt.Errorf("read token %s: %w", id, err)
	}
	if _, ok := jointoken.ReadGrant(secret); !ok {
		return fmt.Errorf("%s is a bootstrap token of something else; delete it with kubectl if you mean it", id)
	}
	err = secrets.Delete(ctx, secret.Name, metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &secret.UID}})
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("delete token %s: %w", id, err)
	}
	return nil
}
