package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	corev1 "k8s.io/api/core/v1"

	"github.com/skerry-io/skerry/edgeagent/config"
	"github.com/skerry-io/skerry/edgeagent/local"
)

// agent is the edge agent of this machine, as a command reaches it.
type agent struct {
	configDir, socket string
}

func (a *agent) addFlags(f *pflag.FlagSet) {
	f.StringVar(&a.configDir, "config-dir", defaultConfigDir, "where edgeagent.yaml is, which says where the agent's socket is")
	f.StringVar(&a.socket, "socket", "", "the agent's socket; default the one of edgeagent.yaml's stateDir")
}

func (a *agent) client() *local.Client {
	if a.socket != "" {
		return &local.Client{Socket: a.socket}
	}
	dir := defaultStateDir
	if c, err := config.Load(filepath.Join(a.configDir, filepath.Base(config.DefaultFile))); err == nil {
		dir = c.StateDir
	}
	return &local.Client{Socket: local.SocketPath(dir)}
}

// explainLocal says what to do about an agent that can't be asked.
func explainLocal(ctx context.Context, err error) error {
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return errInterrupted
	case errors.Is(err, local.ErrNoAgent):
		return fmt.Errorf("%w; is this an edge? 'systemctl status skerry-edgeagent' tells how its agent is, and elsewhere kubectl shows the pods of all edges", err)
	case errors.Is(err, local.ErrNotRoot):
		return fmt.Errorf("%w; try sudo", err)
	}
	return err
}

// findPod finds a pod by name; in which namespace need not be said when only one
// has it.
func findPod(ctx context.Context, c *local.Client, namespace, name string) (*corev1.Pod, error) {
	all, err := c.Pods(ctx)
	if err != nil {
		return nil, explainLocal(ctx, err)
	}
	name = strings.TrimPrefix(strings.TrimPrefix(name, "pods/"), "pod/")
	var found *corev1.Pod
	var in []string
	for i := range all.Pods {
		p := &all.Pods[i]
		if p.Name != name || namespace != "" && p.Namespace != namespace {
			continue
		}
		if len(in) == 0 || in[len(in)-1] != p.Namespace {
			in = append(in, p.Namespace)
		}
		// Of two of one name, one is on its way out.
		if found == nil || found.DeletionTimestamp != nil {
			found = p
		}
	}
	switch {
	case len(in) > 1:
		return nil, fmt.Errorf("there are pods %q in the namespaces %s: say which by -n", name, strings.Join(in, ", "))
	case found == nil && namespace != "":
		return nil, fmt.Errorf("no pod %q in namespace %q on this edge; 'skerry get pods' lists all", name, namespace)
	case found == nil:
		return nil, fmt.Errorf("no pod %q on this edge; 'skerry get pods' lists all", name)
	}
	return found, nil
}

// defaultContainer is an annotation of kubectl's: which container is meant when
// none is named.
const defaultContainer = "kubectl.kubernetes.io/default-container"

// container picks the container that is meant, and says so when that was a choice.
func container(cmd *cobra.Command, pod *corev1.Pod, name string) (string, error) {
	var names []string
	for i := range pod.Spec.Containers {
		names = append(names, pod.Spec.Containers[i].Name)
	}
	switch {
	case name != "":
		return name, nil // the agent knows init and ephemeral ones too
	case len(names) == 0:
		return "", fmt.Errorf("pod %q is only in the container runtime, and about to be removed: name a container by -c", pod.Name)
	case pod.Annotations[defaultContainer] != "":
		return pod.Annotations[defaultContainer], nil
	case len(names) > 1:
		fmt.Fprintf(cmd.ErrOrStderr(), "Defaulted container %q out of: %s\n", names[0], strings.Join(names, ", "))
	}
	return names[0], nil
}

// findContainer gives the pod that is meant, and of which container.
func findContainer(cmd *cobra.Command, c *local.Client, namespace, name, containerName string) (pod *corev1.Pod, in string, err error) {
	if pod, err = findPod(cmd.Context(), c, namespace, name); err == nil {
		in, err = container(cmd, pod, containerName)
	}
	return pod, in, err
}

// completePods offers names of pods to the shell.
func (a *agent) completePods(namespace *string) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		all, err := a.client().Pods(cmd.Context())
		if err != nil {
			return nil, cobra.ShellCompDirectiveError
		}
		var names []cobra.Completion
		for i := range all.Pods {
			if *namespace == "" || all.Pods[i].Namespace == *namespace {
				names = append(names, all.Pods[i].Name)
			}
		}
		return names, cobra.ShellCompDirectiveNoFileComp
	}
}
