package main

import "github.com/spf13/cobra"

func newToken() *cobra.Command { return tokenCommand(&cluster{}) }

func tokenCommand(c *cluster) *cobra.Command {
	cmd := group("token", "Make, list and delete join tokens",
		newTokenCreate(c), newTokenList(c), newTokenDelete(c))
	c.addFlags(cmd.PersistentFlags())
	return cmd
}
