package main

import (
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/skerry-io/skerry/devices/survey"
)

func deviceDiscover(d *devices) *cobra.Command {
	o, m := &opcuaServer{maxNodes: survey.DefaultNodes}, &modbusDevice{}
	cmd := &cobra.Command{
		Use:   "discover --node EDGE --url URL",
		Short: "Ask a device who it is, and how it can be reached",
		Long: `Ask an OPC UA server, by way of an edge, for its endpoints and for the servers that
it knows; or a Modbus device for its identification (function 43/14).

Of the endpoints one is marked: the best, which a Device takes by itself. None is ever
taken without security unless the Device says so. FINGERPRINT is that of the server's
certificate: compare it with the server's own before you trust it.`,
		Example: `  # an OPC UA server
  skerry device discover --node edge-1 --url opc.tcp://plc:4840

  # a Modbus device behind a gateway, and one on a serial line
  skerry device discover --node edge-1 --modbus 10.0.0.7:502 --unit 3
  skerry device discover --node edge-1 --modbus /dev/ttyUSB0 --unit 1 --baud 19200`,
		Args: usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := d.prepare(cmd); err != nil {
				return err
			}
			if err := o.check(cmd); err != nil {
				return err
			}
			switch {
			case (o.url == "") == (m.address == ""):
				return badUsage(cmd, "one of --url and --modbus is needed")
			case m.address != "":
				return d.identify(cmd, o.node, m)
			}
			return d.discover(cmd, o)
		},
	}
	d.addFlags(cmd.Flags(), "json or yaml; a table when empty")
	o.addFlags(cmd.Flags())
	m.addFlags(cmd.Flags())
	return cmd
}

func (d *devices) discover(cmd *cobra.Command, o *opcuaServer) error {
	var found survey.Discovery
	if err := d.askEdge(cmd.Context(), o.node, http.MethodPost, survey.PathDiscover, url.Values{"url": {o.url}}, nil, &found); err != nil {
		return err
	}
	out := cmd.OutOrStdout()
	if d.output != "" {
		return newPrinter(out, d.output, false).document(found)
	}
	rows := [][]string{{"POLICY", "MODE", "USERS", "BEST", "FINGERPRINT"}}
	for _, e := range found.Endpoints {
		best := "-"
		if e.Best {
			best = "*"
		}
		rows = append(rows, []string{e.Policy, e.Mode, strings.Join(e.Users, ","), best, e.Fingerprint})
	}
	if err := table(out, rows); err != nil {
		return err
	}
	if len(found.Servers) > 0 {
		fmt.Fprintln(out)
		rows = [][]string{{"SERVER", "URI", "URLS"}}
		for _, s := range found.Servers {
			rows = append(rows, []string{s.Name, s.URI, strings.Join(s.URLs, ",")})
		}
		return table(out, rows)
	}
	return nil
}

func (d *devices) identify(cmd *cobra.Command, node string, m *modbusDevice) error {
	spec, err := m.spec(cmd)
	if err != nil {
		return err
	}
	var found survey.Identification
	if err := d.askEdge(cmd.Context(), node, http.MethodPost, survey.PathIdentify, nil, survey.IdentifyRequest{Modbus: *spec}, &found); err != nil {
		return err
	}
	if d.output != "" {
		return newPrinter(cmd.OutOrStdout(), d.output, false).document(found)
	}
	rows := [][]string{{"OBJECT", "NAME", "VALUE"}}
	for _, o := range found.Objects {
		rows = append(rows, []string{strconv.Itoa(o.ID), o.Name, o.Value})
	}
	return table(cmd.OutOrStdout(), rows)
}

func deviceBrowse(d *devices) *cobra.Command {
	o := &opcuaServer{}
	cmd := &cobra.Command{
		Use:   "browse --node EDGE --url URL",
		Short: "List what an OPC UA server has",
		Long: `List the variables and methods of an OPC UA server, with types, units and addresses.
Nothing is changed, at the server or in the cluster.`,
		Example: `  # all that there is
  skerry device browse --node edge-1 --url opc.tcp://plc:4840 --trust FINGERPRINT

  # below one node, as a user
  skerry device browse --node edge-1 --url opc.tcp://plc:4840 --root 'nsu=http://vendor/;s=Line1' --user-secret plc

  # for a program
  skerry device browse --node edge-1 --url opc.tcp://plc:4840 -o json`,
		Args: usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := d.prepare(cmd); err != nil {
				return err
			}
			if err := o.check(cmd); err != nil {
				return err
			}
			if o.url == "" {
				return badUsage(cmd, "--url is required: which server?")
			}
			return d.browse(cmd, o)
		},
	}
	d.addFlags(cmd.Flags(), "json or yaml; a table when empty")
	o.addFlags(cmd.Flags())
	o.addSessionFlags(cmd.Flags())
	return cmd
}

func (d *devices) browse(cmd *cobra.Command, o *opcuaServer) error {
	server, secrets, err := o.spec(cmd.Context(), d)
	if err != nil {
		return err
	}
	found, err := o.browse(cmd.Context(), d, server, secrets, cmd.ErrOrStderr())
	if err != nil {
		return err
	}
	if d.output != "" {
		return newPrinter(cmd.OutOrStdout(), d.output, false).document(map[string]any{"types": found.Types, "nodes": found.Nodes})
	}
	paths := make(map[string]string, len(found.Nodes))
	rows := [][]string{{"PATH", "TYPE", "ACCESS", "UNIT", "NODE"}}
	for i := range found.Nodes { // breadth first: parents come before
		n := &found.Nodes[i]
		path := strings.TrimPrefix(paths[n.Parent]+"/"+n.Name, "/")
		paths[n.ID] = path
		switch {
		case n.Class == survey.Method:
			rows = append(rows, []string{path, "method", "-", "-", n.ID})
		case n.Class == survey.Variable && n.Value == nil:
			rows = append(rows, []string{path, "(" + n.Unmapped + ")", string(n.Access), n.Unit, n.ID})
		case n.Class == survey.Variable:
			t := string(n.Value.Type)
			if n.Value.TypeName != "" {
				t = n.Value.TypeName
			}
			if n.Value.Dimensions != nil {
				t += fmt.Sprint(n.Value.Dimensions)
			}
			rows = append(rows, []string{path, t, string(n.Access), n.Unit, n.ID})
		}
	}
	return table(cmd.OutOrStdout(), rows)
}
