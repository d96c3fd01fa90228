package main

import (
	"os"
	"slices"

	"go.etcd.io/etcd/server/v3/etcdmain"
	"k8s.io/component-base/cli"
	_ "k8s.io/component-base/logs/json/register"          // --logging-format=json
	_ "k8s.io/component-base/metrics/prometheus/clientgo" // client metrics
	_ "k8s.io/component-base/metrics/prometheus/version"  // version metric
	kubectl "k8s.io/kubectl/pkg/cmd"
	kubectlutil "k8s.io/kubectl/pkg/cmd/util"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	kcm "k8s.io/kubernetes/cmd/kube-controller-manager/app"
	scheduler "k8s.io/kubernetes/cmd/kube-scheduler/app"
)

// component is one upstream program that this binary can be.
type component struct {
	name string
	main func()
}

// components lists the upstream programs in the order in which up starts them.
func components() []component {
	return []component{
		{"etcd", func() { etcdmain.Main(os.Args) }},
		{"kube-apiserver", func() { os.Exit(cli.Run(apiserver.NewAPIServerCommand())) }},
		{"kube-controller-manager", func() { os.Exit(cli.Run(kcm.NewControllerManagerCommand())) }},
		{"kube-scheduler", func() { os.Exit(cli.Run(scheduler.NewSchedulerCommand())) }},
		{"kubectl", runKubectl},
	}
}

func runKubectl() {
	if err := cli.RunNoErrOutput(kubectl.NewDefaultKubectlCommand()); err != nil {
		kubectlutil.CheckErr(err)
	}
}

// lookup finds the upstream program called name.
func lookup(name string) (component, bool) {
	all := components()
	i := slices.IndexFunc(all, func(c component) bool { return c.name == name })
	if i < 0 {
		return component{}, false
	}
	return all[i], true
}
