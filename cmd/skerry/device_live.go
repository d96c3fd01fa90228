package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/skerry-io/skerry/devices/survey"
	"github.com/skerry-io/skerry/devices/v1alpha1"
)

const valuesHelp = `

A VALUE is JSON: 42, 1.5, true, "text", [1,2], {"x":1}. What is no JSON is taken as text,
so that names of enumerations need no quotes: Mode=Auto. A text that looks like a number
does, within the shell's own: 'Batch="0042"'.`

func deviceRead(d *devices) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "read DEVICE [PROPERTY...]",
		Short: "Read values from a device now",
		Long: `Have the edge ask the device for values as they are now, all of the Device when no
property is named. They don't become part of its history.`,
		Example: `  skerry device read press-1
  skerry device read press-1 Speed Temperature -o json`,
		Args: usageArgs(cobra.MinimumNArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := d.prepare(cmd); err != nil {
				return err
			}
			var got survey.Values
			if err := d.live(cmd, args[0], survey.Read, url.Values{"property": args[1:]}, nil, &got); err != nil {
				return err
			}
			if d.output != "" {
				return newPrinter(cmd.OutOrStdout(), d.output, false).document(got)
			}
			rows := [][]string{{"PROPERTY", "VALUE", "UNIT", "QUALITY", "TIME"}}
			for _, v := range got.Values {
				value, at := "", v.SourceTime
				if v.Value != nil {
					value = v.Value.String()
				}
				if at.IsZero() {
					at = v.ServerTime
				}
				when := ""
				if !at.IsZero() {
					when = at.UTC().Format(time.RFC3339Nano)
				}
				rows = append(rows, []string{v.Property, value, v.Unit, v.Quality, when})
			}
			return table(cmd.OutOrStdout(), rows)
		},
	}
	d.addFlags(cmd.Flags(), "json or yaml; a table when empty")
	return cmd
}

// live does an operation on a Device at the edge that has it.
func (d *devices) live(cmd *cobra.Command, name, operation string, query url.Values, body, answer any) error {
	dev, err := d.device(cmd.Context(), name)
	if err != nil {
		return err
	}
	method := http.MethodPost
	if operation == survey.Read {
		method = http.MethodGet
	}
	return d.askEdge(cmd.Context(), dev.Spec.NodeName, method, survey.LivePath(dev.Namespace, dev.Name, operation), query, body, answer)
}

// assignments reads NAME=VALUE.
func assignments(cmd *cobra.Command, args []string) (names []string, values []v1alpha1.JSON, err error) {
	for _, a := range args {
		name, text, ok := strings.Cut(a, "=")
		if !ok || name == "" {
			return nil, nil, badUsage(cmd, "%q is not NAME=VALUE", a)
		}
		raw := []byte(text)
		if !json.Valid(raw) {
			if raw, err = json.Marshal(text); err != nil {
				return nil, nil, fmt.Errorf("encode %s: %w", name, err)
			}
		}
		var v v1alpha1.JSON
		if err := v.UnmarshalJSON(raw); err != nil {
			return nil, nil, fmt.Errorf("encode %s: %w", name, err)
		}
		names, values = append(names, name), append(values, v)
	}
	return names, values, nil
}

func deviceWrite(d *devices) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "write DEVICE PROPERTY=VALUE...",
		Short: "Write values to a device now",
		Long: `Have the edge write values to the device, once. They are checked against the model's
types and ranges first, all of them, and read back where the Device says so. What should
stay a value belongs into the Device's spec, as desired.` + valuesHelp,
		Example: `  skerry device write press-1 Speed=42
  skerry device write press-1 Mode=Auto Limits='[1,2,3]'`,
		Args: usageArgs(cobra.MinimumNArgs(2)),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := d.prepare(cmd); err != nil {
				return err
			}
			names, values, err := assignments(cmd, args[1:])
			if err != nil {
				return err
			}
			var req survey.WriteRequest
			for i := range names {
				req.Writes = append(req.Writes, survey.PropertyWrite{Property: names[i], Value: values[i]})
			}
			var got survey.Written
			if err := d.live(cmd, args[0], survey.Write, nil, req, &got); err != nil {
				return err
			}
			return d.written(cmd, got)
		},
	}
	d.addFlags(cmd.Flags(), "json or yaml; lines when empty")
	return cmd
}

// written tells how writes went; one that failed is an error of the command.
func (d *devices) written(cmd *cobra.Command, got survey.Written) error {
	var failed []error
	for _, r := range got.Results {
		switch {
		case r.Error != "":
			failed = append(failed, fmt.Errorf("%s is not written: %s", r.Property, oneLine(r.Error)))
		case d.output == "":
			fmt.Fprintf(cmd.OutOrStdout(), "%s written\n", r.Property)
		}
		if r.Note != "" {
			fmt.Fprintf(cmd.ErrOrStderr(), "Warning: %s: %s\n", r.Property, oneLine(r.Note))
		}
	}
	var err error
	if d.output != "" {
		err = newPrinter(cmd.OutOrStdout(), d.output, false).document(got)
	}
	return errors.Join(append(failed, err)...)
}

func deviceCall(d *devices) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "call DEVICE METHOD [ARGUMENT=VALUE...]",
		Short: "Call a method of a device",
		Long:  `Have the edge call a method of the device, once, and show its results.` + valuesHelp,
		Example: `  skerry device call press-1 Start ramp=2.5
  skerry device call press-1 Add a=1 b=2 -o json`,
		Args: usageArgs(cobra.MinimumNArgs(2)),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := d.prepare(cmd); err != nil {
				return err
			}
			names, values, err := assignments(cmd, args[2:])
			if err != nil {
				return err
			}
			req := survey.CallRequest{Method: args[1], Args: map[string]v1alpha1.JSON{}}
			for i, name := range names {
				if _, twice := req.Args[name]; twice {
					return badUsage(cmd, "argument %s is there twice", name)
				}
				req.Args[name] = values[i]
			}
			var got survey.Called
			if err := d.live(cmd, args[0], survey.Call, nil, req, &got); err != nil {
				return err
			}
			if d.output != "" {
				return newPrinter(cmd.OutOrStdout(), d.output, false).document(got)
			}
			for _, o := range got.Outputs {
				fmt.Fprintf(cmd.OutOrStdout(), "%s = %s\n", oneLine(o.Name), o.Value)
			}
			fmt.Fprintf(cmd.ErrOrStderr(), "%s called\n", args[1])
			return nil
		},
	}
	d.addFlags(cmd.Flags(), "json or yaml; lines when empty")
	return cmd
}
