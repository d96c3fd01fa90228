package main

import (
	"encoding/base64"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// sampler makes objects that look like those of a cluster.
type sampler struct{ rng *rand.Rand }

func newSampler(seed uint64) *sampler { return &sampler{rng: rand.New(rand.NewPCG(seed, 0))} }

type object interface{ Marshal() ([]byte, error) }

// history is what later objects refer back to: of each kind a few, and the most
// frequent last, where references are shortest.
func (s *sampler) history() ([]byte, error) {
	var h []byte
	for _, make := range []func() object{s.token, s.pullSecret, s.secret, s.configMap, s.daemonPod, s.fullPod, s.rootCA, s.pod} {
		for range 2 {
			b, err := make().Marshal()
			if err != nil {
				return nil, err
			}
			h = append(h, b...)
		}
	}
	return h, nil
}

func (s *sampler) any() ([]byte, error) {
	kinds := []func() object{s.pod, s.pod, s.pod, s.fullPod, s.fullPod, s.daemonPod, s.configMap, s.configMap, s.rootCA, s.secret, s.token, s.token}
	return kinds[s.rng.IntN(len(kinds))]().Marshal()
}

func (s *sampler) pick(words string) string {
	list := strings.Fields(words)
	return list[s.rng.IntN(len(list))]
}

func (s *sampler) text(n int, alphabet string) string {
	b := make([]byte, n)
	for i := range b {
		b[i] = alphabet[s.rng.IntN(len(alphabet))]
	}
	return string(b)
}

func (s *sampler) uid() types.UID {
	const hex = "0123456789abcdef"
	return types.UID(strings.Join([]string{s.text(8, hex), s.text(4, hex), "4" + s.text(3, hex), "a" + s.text(3, hex), s.text(12, hex)}, "-"))
}

func (s *sampler) time() metav1.Time {
	return metav1.NewTime(time.Unix(1_760_000_000+s.rng.Int64N(60_000_000), 0).UTC())
}

func (s *sampler) meta(name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{
		Name: name, Namespace: s.pick("default kube-system monitoring production edge"), UID: s.uid(),
		ResourceVersion: fmt.Sprint(1000 + s.rng.IntN(900_000)), CreationTimestamp: s.time(),
	}
}

func (s *sampler) name() string {
	return s.pick("web api worker gateway collector agent proxy sensor line press") + "-" + s.pick("server controller edge data main")
}

func (s *sampler) pod() object {
	app := s.name()
	hash := s.text(10, "bcdf456789")
	m := s.meta(app + "-" + hash + "-" + s.text(5, "bcdfghjklmnpqrstvwxz2456789"))
	m.GenerateName = app + "-" + hash + "-"
	m.Generation = 1
	m.Labels = map[string]string{"app": app, "app.kubernetes.io/name": app, "app.kubernetes.io/instance": app, "pod-template-hash": hash}
	yes := true
	m.OwnerReferences = []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: "ReplicaSet", Name: app + "-" + hash, UID: s.uid(), Controller: &yes, BlockOwnerDeletion: &yes}}
	grace, priority, no := int64(30), int32(0), true
	preempt := corev1.PreemptLowerPriority
	account := "kube-api-access-" + s.text(5, "bcdfghjklmnpqrstvwxz2456789")
	container := corev1.Container{
		Name: app, Image: "registry.example.com/" + app + ":" + s.pick("latest 1.0.0 v1.2.3 2.4"), ImagePullPolicy: corev1.PullIfNotPresent,
		TerminationMessagePath: "/dev/termination-log", TerminationMessagePolicy: corev1.TerminationMessageReadFile,
		VolumeMounts: []corev1.VolumeMount{{Name: account, ReadOnly: true, MountPath: "/var/run/secrets/kubernetes.io/serviceaccount"}},
	}
	return &corev1.Pod{
		ObjectMeta: m,
		Spec: corev1.PodSpec{
			Volumes: []corev1.Volume{apiAccess(account)}, Containers: []corev1.Container{container},
			RestartPolicy: corev1.RestartPolicyAlways, TerminationGracePeriodSeconds: &grace, DNSPolicy: corev1.DNSClusterFirst,
			ServiceAccountName: "default", DeprecatedServiceAccount: "default", NodeName: "edge-" + fmt.Sprint(s.rng.IntN(100)),
			SecurityContext: &corev1.PodSecurityContext{}, SchedulerName: "default-scheduler", EnableServiceLinks: &no,
			Priority: &priority, PreemptionPolicy: &preempt, Tolerations: tolerations(),
		},
		Status: corev1.PodStatus{Phase: corev1.PodPending, QOSClass: corev1.PodQOSBestEffort, Conditions: []corev1.PodCondition{
			{Type: corev1.PodScheduled, Status: corev1.ConditionTrue, LastTransitionTime: s.time()},
		}},
	}
}

func tolerations() []corev1.Toleration {
	seconds := int64(300)
	return []corev1.Toleration{
		{Key: "node.kubernetes.io/not-ready", Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute, TolerationSeconds: &seconds},
		{Key: "node.kubernetes.io/unreachable", Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute, TolerationSeconds: &seconds},
	}
}

func apiAccess(name string) corev1.Volume {
	mode, expiry := int32(0o644), int64(3607)
	return corev1.Volume{Name: name, VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{DefaultMode: &mode, Sources: []corev1.VolumeProjection{
		{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{ExpirationSeconds: &expiry, Path: "token"}},
		{ConfigMap: &corev1.ConfigMapProjection{LocalObjectReference: corev1.LocalObjectReference{Name: "kube-root-ca.crt"}, Items: []corev1.KeyToPath{{Key: "ca.crt", Path: "ca.crt"}}}},
		{DownwardAPI: &corev1.DownwardAPIProjection{Items: []corev1.DownwardAPIVolumeFile{{Path: "namespace", FieldRef: &corev1.ObjectFieldSelector{APIVersion: "v1", FieldPath: "metadata.namespace"}}}}},
	}}}}
}

// fullPod has probes, limits, an environment and volumes.
func (s *sampler) fullPod() object {
	pod, ok := s.pod().(*corev1.Pod)
	if !ok {
		return nil
	}
	c := &pod.Spec.Containers[0]
	probe := func(path string) *corev1.Probe {
		return &corev1.Probe{
			ProbeHandler:   corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: path, Port: intstr.FromInt32(8080), Scheme: corev1.URISchemeHTTP}},
			TimeoutSeconds: 1, PeriodSeconds: 10, SuccessThreshold: 1, FailureThreshold: 3,
		}
	}
	c.LivenessProbe, c.ReadinessProbe = probe("/healthz"), probe("/readyz")
	c.Resources = corev1.ResourceRequirements{
		Limits:   corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("500m"), corev1.ResourceMemory: resource.MustParse("128Mi")},
		Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("100m"), corev1.ResourceMemory: resource.MustParse("64Mi")},
	}
	c.Ports = []corev1.ContainerPort{{Name: "http", ContainerPort: 8080, Protocol: corev1.ProtocolTCP}, {Name: "metrics", ContainerPort: 9090, Protocol: corev1.ProtocolTCP}}
	field := func(name, path string) corev1.EnvVar {
		return corev1.EnvVar{Name: name, ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{APIVersion: "v1", FieldPath: path}}}
	}
	c.Env = []corev1.EnvVar{
		field("NODE_NAME", "spec.nodeName"), field("POD_NAME", "metadata.name"), field("POD_NAMESPACE", "metadata.namespace"), field("POD_IP", "status.podIP"),
		{Name: "LOG_LEVEL", Value: "info"},
		{Name: "PASSWORD", ValueFrom: &corev1.EnvVarSource{SecretKeyRef: &corev1.SecretKeySelector{LocalObjectReference: corev1.LocalObjectReference{Name: c.Name}, Key: "password"}}},
	}
	c.Command, c.Args = []string{"/bin/sh", "-c"}, []string{"exec /usr/local/bin/" + c.Name + " --config=/etc/config/config.yaml"}
	no, yes, user := false, true, int64(65534)
	c.SecurityContext = &corev1.SecurityContext{
		AllowPrivilegeEscalation: &no, ReadOnlyRootFilesystem: &yes, RunAsNonRoot: &yes, RunAsUser: &user,
		Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}}, SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
	}
	mode := int32(0o644)
	directory := corev1.HostPathDirectoryOrCreate
	pod.Spec.Volumes = append([]corev1.Volume{
		{Name: "config", VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: corev1.LocalObjectReference{Name: c.Name}, DefaultMode: &mode}}},
		{Name: "tls", VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: c.Name + "-tls", DefaultMode: &mode}}},
		{Name: "tmp", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}},
		{Name: "data", VolumeSource: corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: "/var/lib/" + c.Name, Type: &directory}}},
	}, pod.Spec.Volumes...)
	c.VolumeMounts = append([]corev1.VolumeMount{
		{Name: "config", MountPath: "/etc/config"}, {Name: "tls", ReadOnly: true, MountPath: "/etc/tls"}, {Name: "tmp", MountPath: "/tmp"}, {Name: "data", MountPath: "/data"},
	}, c.VolumeMounts...)
	pod.Spec.ImagePullSecrets = []corev1.LocalObjectReference{{Name: "registry"}}
	pod.Status.QOSClass = corev1.PodQOSBurstable
	pod.Annotations = map[string]string{"prometheus.io/scrape": "true", "prometheus.io/port": "9090", "prometheus.io/path": "/metrics"}
	return pod
}

func (s *sampler) daemonPod() object {
	pod, ok := s.fullPod().(*corev1.Pod)
	if !ok {
		return nil
	}
	pod.Spec.HostNetwork = true
	pod.Spec.DNSPolicy = corev1.DNSClusterFirstWithHostNet
	pod.Spec.PriorityClassName = "system-node-critical"
	pod.OwnerReferences[0].Kind = "DaemonSet"
	pod.Labels = map[string]string{"k8s-app": pod.Spec.Containers[0].Name, "controller-revision-hash": s.text(10, "bcdf456789"), "pod-template-generation": "1"}
	for _, key := range []string{"not-ready", "unreachable", "disk-pressure", "memory-pressure", "pid-pressure", "unschedulable", "network-unavailable"} {
		pod.Spec.Tolerations = append(pod.Spec.Tolerations, corev1.Toleration{Key: "node.kubernetes.io/" + key, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoSchedule})
	}
	pod.Spec.Affinity = &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{RequiredDuringSchedulingIgnoredDuringExecution: &corev1.NodeSelector{
		NodeSelectorTerms: []corev1.NodeSelectorTerm{{MatchFields: []corev1.NodeSelectorRequirement{{Key: "metadata.name", Operator: corev1.NodeSelectorOpIn, Values: []string{pod.Spec.NodeName}}}}},
	}}}
	return pod
}

const base64Alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"

// pem has no key or certificate: random letters between the usual lines.
func (s *sampler) pem(kind string, lines int) string {
	var b strings.Builder
	b.WriteString("-----BEGIN " + kind + "-----\nMII")
	for range lines {
		b.WriteString(s.text(64, base64Alphabet) + "\n")
	}
	b.WriteString("-----END " + kind + "-----\n")
	return b.String()
}

func (s *sampler) rootCA() object {
	m := s.meta("kube-root-ca.crt")
	m.Annotations = map[string]string{"kubernetes.io/description": "Contains a CA bundle that can be used to verify the kube-apiserver when using internal endpoints such as the internal service IP or kubernetes.default.svc. No other usage is guaranteed across distributions of Kubernetes clusters."}
	return &corev1.ConfigMap{ObjectMeta: m, Data: map[string]string{"ca.crt": s.pem("CERTIFICATE", 4)}}
}

func (s *sampler) configMap() object {
	app := s.name()
	m := s.meta(app + "-config")
	m.Labels = map[string]string{"app": app, "app.kubernetes.io/managed-by": "Helm", "app.kubernetes.io/name": app, "app.kubernetes.io/part-of": app}
	return &corev1.ConfigMap{ObjectMeta: m, Data: map[string]string{
		"config.yaml":                    "server:\n  address: 0.0.0.0\n  port: 8080\nlogging:\n  level: info\n  format: json\nmqtt:\n  host: mosquitto.default.svc.cluster.local\n  port: 1883\n  topic: " + app + "/data\ninterval: 10s\ntimeout: 30s\nenabled: true\n",
		s.pick("settings.json app.json"): `{"name":"` + app + `","enabled":true,"interval":` + fmt.Sprint(s.rng.IntN(60)) + `,"endpoint":"https://` + app + `.example.com/api/v1"}`,
	}}
}

func (s *sampler) secret() object {
	return &corev1.Secret{ObjectMeta: s.meta(s.name() + "-tls"), Type: corev1.SecretTypeTLS, Data: map[string][]byte{
		"tls.crt": []byte(s.pem("CERTIFICATE", 4)), "tls.key": []byte(s.pem("EC PRIVATE KEY", 2)),
	}}
}

func (s *sampler) pullSecret() object {
	auth := base64.StdEncoding.EncodeToString([]byte("user:" + s.text(12, base64Alphabet)))
	return &corev1.Secret{ObjectMeta: s.meta("registry"), Type: corev1.SecretTypeDockerConfigJson, Data: map[string][]byte{
		".dockerconfigjson": []byte(`{"auths":{"registry.example.com":{"username":"user","password":"` + s.text(12, base64Alphabet) + `","auth":"` + auth + `"}}}`),
	}}
}

// token is a TokenRequest as the API answers it, with a JWT that nobody signed.
func (s *sampler) token() object {
	seconds := int64(3607)
	account := s.pick("default web-server")
	claims := fmt.Sprintf(`{"aud":["https://kubernetes.default.svc.cluster.local"],"exp":%d,"iat":%d,"iss":"https://kubernetes.default.svc.cluster.local","jti":"%s","kubernetes.io":{"namespace":"default","node":{"name":"edge-%d","uid":"%s"},"pod":{"name":"%s","uid":"%s"},"serviceaccount":{"name":"%s","uid":"%s"}},"nbf":%d,"sub":"system:serviceaccount:default:%s"}`,
		s.time().Unix(), s.time().Unix(), s.uid(), s.rng.IntN(100), s.uid(), s.name(), s.uid(), account, s.uid(), s.time().Unix(), account)
	encode := base64.RawURLEncoding.EncodeToString
	jwt := encode([]byte(`{"alg":"RS256","kid":"`+s.text(43, base64Alphabet)+`"}`)) + "." + encode([]byte(claims)) + "." + s.text(342, base64Alphabet[:62])
	m := s.meta(account)
	m.UID, m.ResourceVersion = "", ""
	return &authenticationv1.TokenRequest{
		ObjectMeta: m,
		Spec: authenticationv1.TokenRequestSpec{
			Audiences: []string{"https://kubernetes.default.svc.cluster.local"}, ExpirationSeconds: &seconds,
			BoundObjectRef: &authenticationv1.BoundObjectReference{Kind: "Pod", APIVersion: "v1", Name: s.name(), UID: s.uid()},
		},
		Status: authenticationv1.TokenRequestStatus{Token: jwt, ExpirationTimestamp: s.time()},
	}
}
