package volumes

import (
	"errors"
	"fmt"
	"maps"
	"path"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/skerry-io/skerry/edgeagent/pods/downward"
	"github.com/skerry-io/skerry/tunnel/wire"
)

// file is one file of a payload volume.
type file struct {
	data []byte
	mode int32
	// user owns the file. Nil means root.
	user *int64
}

// files are the files of a volume by their path in it.
type files map[string]file

// defaultExpiry is what the API defaults expirationSeconds to.
const defaultExpiry = 3600

func (m *Manager) payload(pod *corev1.Pod, v *corev1.Volume, facts downward.Facts) (files, error) {
	switch {
	case v.ConfigMap != nil:
		return m.configMap(pod.Namespace, v.ConfigMap.Name, v.ConfigMap.Items, look(v.ConfigMap.DefaultMode, v.ConfigMap.DefaultUser), truth(v.ConfigMap.Optional))
	case v.Secret != nil:
		return m.secret(pod.Namespace, v.Secret.SecretName, v.Secret.Items, look(v.Secret.DefaultMode, v.Secret.DefaultUser), truth(v.Secret.Optional))
	case v.DownwardAPI != nil:
		return downwardFiles(pod, v.DownwardAPI.Items, look(v.DownwardAPI.DefaultMode, v.DownwardAPI.DefaultUser), facts)
	case v.Projected != nil:
		return m.projected(pod, v, facts)
	default:
		return nil, &UnsupportedError{Volume: v.Name, Source: sourceName(v)}
	}
}

func (m *Manager) projected(pod *corev1.Pod, v *corev1.Volume, facts downward.Facts) (files, error) {
	all := files{}
	def := look(v.Projected.DefaultMode, v.Projected.DefaultUser)
	for i := range v.Projected.Sources {
		s := &v.Projected.Sources[i]
		var part files
		var err error
		switch {
		case s.ConfigMap != nil:
			part, err = m.configMap(pod.Namespace, s.ConfigMap.Name, s.ConfigMap.Items, def, truth(s.ConfigMap.Optional))
		case s.Secret != nil:
			part, err = m.secret(pod.Namespace, s.Secret.Name, s.Secret.Items, def, truth(s.Secret.Optional))
		case s.DownwardAPI != nil:
			part, err = downwardFiles(pod, s.DownwardAPI.Items, def, facts)
		case s.ServiceAccountToken != nil:
			part, err = m.token(pod, s.ServiceAccountToken, def)
		case s.ClusterTrustBundle != nil:
			part, err = m.trustBundle(pod, s.ClusterTrustBundle, def)
		case s.PodCertificate != nil:
			part, err = m.certificate(pod, v.Name, i, s.PodCertificate, def)
		default:
			err = errors.New("a projected source of unknown kind is not supported on this node")
		}
		if err != nil {
			return nil, err
		}
		maps.Copy(all, part)
	}
	return all, nil
}

func (m *Manager) configMap(namespace, name string, items []corev1.KeyToPath, def attributes, optional bool) (files, error) {
	cm, err := m.objects.ConfigMap(namespace, name)
	if errors.Is(err, ErrNotFound) {
		if optional {
			return files{}, nil
		}
		return nil, fmt.Errorf("configmap %q not found", name)
	}
	if err != nil {
		return nil, fmt.Errorf("configmap %q: %w", name, err)
	}
	data := make(map[string][]byte, len(cm.Data)+len(cm.BinaryData))
	for k, v := range cm.Data {
		data[k] = []byte(v)
	}
	maps.Copy(data, cm.BinaryData)
	return pick(data, items, def, optional, "configmap references non-existent config key: ")
}

func (m *Manager) secret(namespace, name string, items []corev1.KeyToPath, def attributes, optional bool) (files, error) {
	s, err := m.objects.Secret(namespace, name)
	if errors.Is(err, ErrNotFound) {
		if optional {
			return files{}, nil
		}
		return nil, fmt.Errorf("secret %q not found", name)
	}
	if err != nil {
		return nil, fmt.Errorf("secret %q: %w", name, err)
	}
	return pick(s.Data, items, def, optional, "references non-existent secret key: ")
}

// pick maps the keys of an object to files, all of them or those listed.
func pick(data map[string][]byte, items []corev1.KeyToPath, def attributes, optional bool, missing string) (files, error) {
	out := files{}
	if len(items) == 0 {
		for k, v := range data {
			out[k] = def.file(v)
		}
		return out, nil
	}
	for _, item := range items {
		v, ok := data[item.Key]
		if !ok {
			if optional {
				continue
			}
			return nil, errors.New(missing + item.Key)
		}
		f := def.file(v)
		if item.Mode != nil {
			f.mode = *item.Mode
		}
		if item.User != nil {
			f.user = item.User
		}
		out[path.Clean(item.Path)] = f
	}
	return out, nil
}

func downwardFiles(pod *corev1.Pod, items []corev1.DownwardAPIVolumeFile, def attributes, facts downward.Facts) (files, error) {
	out := files{}
	for i := range items {
		item := &items[i]
		var text string
		var err error
		switch {
		case item.FieldRef != nil:
			text, err = downward.Field(pod, facts, item.FieldRef.FieldPath)
		case item.ResourceFieldRef != nil:
			text, err = downward.Resource(pod, facts, item.ResourceFieldRef.ContainerName, item.ResourceFieldRef)
		default:
			err = fmt.Errorf("file %s has neither fieldRef nor resourceFieldRef", item.Path)
		}
		if err != nil {
			return nil, err
		}
		f := def.file([]byte(text))
		if item.Mode != nil {
			f.mode = *item.Mode
		}
		if item.User != nil {
			f.user = item.User
		}
		out[path.Clean(item.Path)] = f
	}
	return out, nil
}

// token is readable by root only, unless the pod says who else must read it:
// by fsGroup, or by one runAsUser that all its containers share.
func (m *Manager) token(pod *corev1.Pod, src *corev1.ServiceAccountTokenProjection, def attributes) (files, error) {
	seconds := int64(defaultExpiry)
	if src.ExpirationSeconds != nil {
		seconds = *src.ExpirationSeconds
	}
	t, err := m.objects.Token(pod.Namespace, pod.Name, wire.TokenID(string(pod.UID), src.Audience, seconds))
	if errors.Is(err, ErrNotFound) {
		return nil, fmt.Errorf("service account token for audience %q: %w", src.Audience, ErrNotYet)
	}
	if err != nil {
		return nil, fmt.Errorf("service account token: %w", err)
	}
	return files{path.Clean(strings.TrimPrefix(src.Path, "/")): private(pod, []byte(t.Status.Token), def, src.User)}, nil
}

// private makes a file that nobody reads but the user that it is for, if the pod says
// who that is.
func private(pod *corev1.Pod, data []byte, def attributes, user *int64) file {
	f := def.file(data)
	switch {
	case user != nil:
		f.user = user
	case f.user == nil:
		f.user = onlyUser(pod)
	}
	if f.user != nil || fsGroup(pod) != nil {
		f.mode = 0o600
	}
	return f
}

// onlyUser is the user that all containers run as, if there is one.
func onlyUser(pod *corev1.Pod) *int64 {
	var common *int64
	if pod.Spec.SecurityContext != nil {
		common = pod.Spec.SecurityContext.RunAsUser
	}
	var one *int64
	check := func(sc *corev1.SecurityContext) bool {
		user := common
		if sc != nil && sc.RunAsUser != nil {
			user = sc.RunAsUser
		}
		if user == nil || (one != nil && *one != *user) {
			return false
		}
		one = user
		return true
	}
	for i := range pod.Spec.InitContainers {
		if !check(pod.Spec.InitContainers[i].SecurityContext) {
			return nil
		}
	}
	for i := range pod.Spec.Containers {
		if !check(pod.Spec.Containers[i].SecurityContext) {
			return nil
		}
	}
	return one
}

// attributes are what the files of a volume have unless they say otherwise.
type attributes struct {
	mode int32
	user *int64
}

func look(mode *int32, user *int64) attributes {
	a := attributes{mode: 0o644, user: user}
	if mode != nil {
		a.mode = *mode
	}
	return a
}

func (a attributes) file(data []byte) file { return file{data: data, mode: a.mode, user: a.user} }

func truth(b *bool) bool { return b != nil && *b }
