package main

import (
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/skerry-io/skerry/devices/onboard"
	"github.com/skerry-io/skerry/devices/v1alpha1"
)

// maxSource bounds the name of what is onboarded: names of objects begin with it.
const maxSource = 40

// onboarding is what the flags of `skerry device onboard` say.
type onboarding struct {
	server    opcuaServer
	modbus    modbusDevice
	name      string
	registers string
	shape     onboard.Shape
	apply     applying
}

func deviceOnboard(d *devices) *cobra.Command {
	o := &onboarding{}
	cmd := &cobra.Command{
		Use:   "onboard --node EDGE (--url URL | --modbus ADDRESS --registers FILE)",
		Short: "Make DeviceModels and Devices of what a device has",
		Long: `Browse an OPC UA server, by way of an edge, and make objects of it: objects of a type
of their own become a Device each, with one DeviceModel for each type; all else becomes
one Device. Units, ranges, access, enumerations, structures and methods are in the
models. Of a Modbus device, a table of registers says what it has.

Without -o and --apply it says what would be new, changed or gone in the cluster. A
second time, names that the cluster has are kept, and desired values, policies and
whatever else people have added are left alone. Properties that the device has no more
are taken out; objects are never deleted.

The table of registers is CSV; its first line names columns:
` + onboard.Columns,
		Example: `  # what would be made of a server
  skerry device onboard --node edge-1 --url opc.tcp://plc:4840 --trust FINGERPRINT

  # look at it, or put it into the cluster
  skerry device onboard --node edge-1 --url opc.tcp://plc:4840 --trust FINGERPRINT -o yaml
  skerry device onboard --node edge-1 --url opc.tcp://plc:4840 --trust FINGERPRINT --apply

  # only some of it, as one Device
  skerry device onboard --node edge-1 --url opc.tcp://plc:4840 --match 'Hall 1/*/Speed' --flat

  # a Modbus device by its table of registers
  skerry device onboard --node edge-1 --modbus 10.0.0.7:502 --unit 3 --registers meter.csv --name meter --apply`,
		Args: usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := d.prepare(cmd); err != nil {
				return err
			}
			return o.run(cmd, d)
		},
	}
	f := cmd.Flags()
	d.addFlags(f, "yaml or json: the objects themselves; what would change when empty")
	o.server.addFlags(f)
	o.server.addSessionFlags(f)
	o.modbus.addFlags(f)
	f.StringVar(&o.name, "name", "", "first part of every object's name; default the device's host")
	f.StringVar(&o.registers, "registers", "", "table of Modbus registers, CSV `file`; - is standard input")
	f.BoolVar(&o.shape.Flat, "flat", false, "make one Device of everything")
	f.StringVar(&o.shape.Match, "match", "", "take only variables and methods with such a path, as in 'Hall 1/*/Speed'")
	o.apply.addFlags(f)
	return cmd
}

// check refuses what can't be.
func (o *onboarding) check(cmd *cobra.Command) error {
	if err := o.server.check(cmd); err != nil {
		return err
	}
	switch {
	case (o.server.url == "") == (o.modbus.address == ""):
		return badUsage(cmd, "one of --url and --modbus is needed")
	case o.modbus.address != "" && o.registers == "":
		return badUsage(cmd, "--registers is needed with --modbus: a device does not say what its registers mean; the columns are in --help")
	case o.registers != "" && o.modbus.address == "":
		return badUsage(cmd, "--registers goes with --modbus")
	}
	if o.name == "" {
		o.name = nameOf(o.server.url, o.modbus.address)
	}
	if errs := validation.IsDNS1123Label(o.name); len(errs) > 0 || len(o.name) > maxSource {
		return badUsage(cmd, "--name %q: names of objects are made of it, so it is lower case letters, digits and hyphens, %d at most", o.name, maxSource)
	}
	return nil
}

// nameOf makes a name of where a device is.
func nameOf(server, modbus string) string {
	host := ""
	if u, err := url.Parse(server); err == nil && server != "" {
		host = u.Hostname()
	} else if h, _, err := net.SplitHostPort(modbus); err == nil {
		host = h
	} else {
		host = modbus[strings.LastIndexByte(modbus, '/')+1:]
	}
	name := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' {
			return r
		}
		return '-'
	}, strings.ToLower(host))
	if len(name) > maxSource {
		name = name[:maxSource]
	}
	if name = strings.Trim(name, "-"); name == "" {
		return "device"
	}
	return name
}

func (o *onboarding) run(cmd *cobra.Command, d *devices) error {
	if err := o.check(cmd); err != nil {
		return err
	}
	ctx := cmd.Context()
	in := onboard.Into{Namespace: d.namespace, Node: o.server.node, Name: o.name}
	var r onboard.Result
	if o.modbus.address != "" {
		spec, err := o.modbus.spec(cmd)
		if err != nil {
			return err
		}
		in.Protocol.Modbus = spec
		if r, err = o.table(cmd, in); err != nil {
			return err
		}
	} else {
		server, secrets, err := o.server.spec(ctx, d)
		if err != nil {
			return err
		}
		found, err := o.server.browse(ctx, d, server, secrets, cmd.ErrOrStderr())
		if err != nil {
			return err
		}
		in.Protocol.OPCUA = server
		if in.Known, err = listOf[v1alpha1.Device](ctx, d, v1alpha1.Devices, onboard.LabelSource+"="+o.name); err != nil {
			// What is only looked at needs no cluster that has Devices.
			if o.apply.apply || d.output == "" {
				return err
			}
			fmt.Fprintf(cmd.ErrOrStderr(), "Warning: names that the cluster has are not known: %v\n", err)
		}
		if r, err = onboard.OPCUA(found, o.shape, in); err != nil {
			return err
		}
	}
	return o.apply.finish(cmd, d, r, o.name)
}

// table reads the table of registers.
func (o *onboarding) table(cmd *cobra.Command, in onboard.Into) (onboard.Result, error) {
	file, closeFile, err := openInput(cmd, o.registers)
	if err != nil {
		return onboard.Result{}, err
	}
	defer closeFile()
	r, err := onboard.Registers(file, in)
	if err != nil {
		return r, fmt.Errorf("%s: %w\nnext: correct the table; 'skerry device onboard --help' says what columns may hold", o.registers, err)
	}
	return r, nil
}

// openInput opens a file, or standard input for "-".
func openInput(cmd *cobra.Command, name string) (io.Reader, func(), error) {
	if name == "-" {
		return cmd.InOrStdin(), func() {}, nil
	}
	file, err := os.Open(name)
	if err != nil {
		return nil, nil, fmt.Errorf("open the file: %w", err)
	}
	return file, func() { _ = file.Close() }, nil
}
