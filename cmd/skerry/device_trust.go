package main

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/skerry-io/skerry/devices/v1alpha1"
)

func deviceTrust(d *devices) *cobra.Command {
	var fingerprint string
	cmd := &cobra.Command{
		Use:   "trust DEVICE --fingerprint SHA256",
		Short: "Trust the certificate of a Device's OPC UA server",
		Long: `Add a certificate to those that a Device trusts, by its SHA-256 fingerprint. Without
--fingerprint it shows the one that the edge has rejected. Compare it with what the
server shows of its own, on its display or by its vendor's program: whoever is between
shows another one.`,
		Example: `  # which one was it?
  skerry device trust press-1

  # it is the server's
  skerry device trust press-1 --fingerprint 6f1e...`,
		Args: usageArgs(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := d.prepare(cmd); err != nil {
				return err
			}
			return d.trust(cmd, args[0], plainFingerprint(fingerprint))
		},
	}
	d.addFlags(cmd.Flags(), "json or yaml: the Device; a line when empty")
	cmd.Flags().StringVar(&fingerprint, "fingerprint", "", "SHA-256 of the certificate, 64 hexadecimal digits; colons may be between them")
	return cmd
}

func (d *devices) trust(cmd *cobra.Command, name, fingerprint string) error {
	ctx := cmd.Context()
	dev, err := d.device(ctx, name)
	if err != nil {
		return err
	}
	spec := dev.Spec.Protocol.OPCUA
	rejected := dev.Status.RejectedCertificate
	switch {
	case spec == nil:
		return fmt.Errorf("device %s is no OPC UA server: there is no certificate to trust", name)
	case fingerprint == "" && rejected == nil:
		return fmt.Errorf("no certificate of %s was rejected; name the one to trust by --fingerprint", name)
	case fingerprint == "":
		fmt.Fprintln(cmd.OutOrStdout(), rejected.Fingerprint)
		fmt.Fprintf(cmd.ErrOrStderr(), "that is the SHA-256 of the certificate which edge %s has rejected; next: if it is the server's own, skerry device trust %s --fingerprint %s\n", dev.Spec.NodeName, name, rejected.Fingerprint)
		return nil
	case !regexp.MustCompile(`^[0-9a-f]{64}$`).MatchString(fingerprint):
		return badUsage(cmd, "--fingerprint is 64 hexadecimal digits, this one has %d characters", len(fingerprint))
	}
	trust := v1alpha1.OPCUATrust{}
	if spec.Trust != nil {
		trust = *spec.Trust
	}
	if slices.ContainsFunc(trust.Fingerprints, func(f string) bool { return plainFingerprint(f) == fingerprint }) {
		fmt.Fprintf(cmd.OutOrStdout(), "device %s trusts it already\n", name)
		return nil
	}
	if rejected != nil && plainFingerprint(rejected.Fingerprint) != fingerprint {
		fmt.Fprintf(cmd.ErrOrStderr(), "Warning: the certificate that was rejected last has another fingerprint: %s\n", rejected.Fingerprint)
	}
	// With the version that was looked at: a list is replaced whole.
	patch, err := json.Marshal(map[string]any{
		"metadata": map[string]any{"resourceVersion": dev.ResourceVersion},
		"spec":     map[string]any{"protocol": map[string]any{"opcua": map[string]any{"trust": map[string]any{"fingerprints": append(slices.Clone(trust.Fingerprints), fingerprint)}}}},
	})
	if err != nil {
		return fmt.Errorf("encode: %w", err)
	}
	client, err := d.resource(v1alpha1.Devices)
	if err != nil {
		return err
	}
	got, err := client.Patch(ctx, name, types.MergePatchType, patch, metav1.PatchOptions{FieldManager: "skerry-trust"})
	if err != nil {
		return fmt.Errorf("change Device %s: %w; the command can be repeated", name, err)
	}
	if d.output != "" {
		return newPrinter(cmd.OutOrStdout(), d.output, false).document(got.Object)
	}
	fmt.Fprintf(cmd.OutOrStdout(), "device %s trusts %s; edge %s connects anew\n", name, fingerprint, dev.Spec.NodeName)
	return nil
}
