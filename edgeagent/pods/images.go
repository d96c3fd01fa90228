package pods

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/skerry-io/skerry/edgeagent/cri"
)

// ensureImage makes the image of a container present, by its pull policy, and
// returns it with the reference to create the container from.
func (e *env) ensureImage(ctx context.Context, s *snapshot, c *corev1.Container, sandbox *cri.SandboxConfig) (cri.Image, string, *startError) {
	name, err := withTag(c.Image)
	if err != nil {
		return cri.Image{}, "", fail(reasonImageName, "InspectFailed", err)
	}
	image, err := e.cri.ImageStatus(ctx, name)
	present := err == nil
	if err != nil && !errors.Is(err, cri.ErrNotFound) {
		return cri.Image{}, "", fail(reasonImageInspect, "InspectFailed", fmt.Errorf("failed to inspect image %q: %w", c.Image, err))
	}
	switch policy := pullPolicy(c); {
	case policy == corev1.PullNever && !present:
		return cri.Image{}, "", fail(reasonImageNever, reasonImageNever,
			fmt.Errorf("container image %q is not present with pull policy of Never", c.Image))
	case policy == corev1.PullNever, policy == corev1.PullIfNotPresent && present:
		e.event(s.pod, c.Name, corev1.EventTypeNormal, "Pulled", fmt.Sprintf("Container image %q already present on machine", c.Image))
		return image, image.ID, nil
	}
	ref, err := e.pull(ctx, s.pod, c, name, sandbox)
	if err != nil {
		return cri.Image{}, "", fail(reasonErrImagePull, "Failed", err)
	}
	if image, err = e.cri.ImageStatus(ctx, ref); err != nil {
		return cri.Image{}, "", fail(reasonImageInspect, "InspectFailed", fmt.Errorf("failed to inspect image %q: %w", c.Image, err))
	}
	return image, ref, nil
}

// pull fetches an image. Few pulls run at a time: on a thin line two pulls only
// delay the first of two pods.
func (e *env) pull(ctx context.Context, pod *corev1.Pod, c *corev1.Container, name string, sandbox *cri.SandboxConfig) (string, error) {
	began := time.Now()
	select {
	case <-ctx.Done():
		return "", ctx.Err()
	case e.pulls <- struct{}{}:
		defer func() { <-e.pulls }()
	}
	e.event(pod, c.Name, corev1.EventTypeNormal, "Pulling", fmt.Sprintf("Pulling image %q", c.Image))
	pulling := time.Now()
	auths := e.credentials(pod, name)
	auths = append(auths, nil) // anonymous, after all that might work
	var errs []error
	for _, auth := range auths {
		ref, err := e.cri.PullImage(ctx, name, auth, sandbox)
		if err == nil {
			e.event(pod, c.Name, corev1.EventTypeNormal, "Pulled", fmt.Sprintf("Successfully pulled image %q in %v (%v including waiting)",
				c.Image, time.Since(pulling).Truncate(time.Millisecond), time.Since(began).Truncate(time.Millisecond)))
			return ref, nil
		}
		if ctx.Err() != nil {
			return "", ctx.Err()
		}
		errs = append(errs, err)
	}
	return "", fmt.Errorf("failed to pull image %q: %w", c.Image, errs[0])
}

// pullPolicy is the container's, or the API's default.
func pullPolicy(c *corev1.Container) corev1.PullPolicy {
	if c.ImagePullPolicy != "" {
		return c.ImagePullPolicy
	}
	if strings.HasSuffix(c.Image, ":latest") || !strings.Contains(c.Image[strings.LastIndex(c.Image, "/")+1:], ":") {
		return corev1.PullAlways
	}
	return corev1.PullIfNotPresent
}

// withTag adds :latest to a name that has neither tag nor digest.
func withTag(image string) (string, error) {
	last := image[strings.LastIndex(image, "/")+1:]
	if image == "" || last == "" || strings.ContainsAny(image, " \t\n") || image != strings.TrimLeft(image, "/:@") {
		return "", fmt.Errorf("couldn't parse image name %q: invalid reference format", image)
	}
	if strings.ContainsAny(last, ":@") {
		return image, nil
	}
	return image + ":latest", nil
}

// dockerConfig is the content of an image pull secret.
type dockerConfig struct {
	Auths map[string]struct {
		Username      string `json:"username"`
		Password      string `json:"password"`
		Auth          string `json:"auth"`
		IdentityToken string `json:"identitytoken"`
		RegistryToken string `json:"registrytoken"`
	} `json:"auths"`
}

// credentials are those of the pod's imagePullSecrets that are for the image's
// registry, the most specific first. A secret that is missing or malformed is
// passed over, as the kubelet does: the pull may work without.
func (e *env) credentials(pod *corev1.Pod, image string) []*cri.Auth {
	var out []*cri.Auth
	best := -1
	for _, ref := range pod.Spec.ImagePullSecrets {
		s, err := e.Objects.Secret(pod.Namespace, ref.Name)
		if err != nil {
			e.Log.Warn("image pull secret not usable", "pod", pod.Name, "namespace", pod.Namespace, "secret", ref.Name, "error", err)
			continue
		}
		var cfg dockerConfig
		raw := s.Data[corev1.DockerConfigJsonKey]
		if raw == nil {
			err = json.Unmarshal(s.Data[corev1.DockerConfigKey], &cfg.Auths)
		} else {
			err = json.Unmarshal(raw, &cfg)
		}
		if err != nil {
			e.Log.Warn("image pull secret not usable", "pod", pod.Name, "namespace", pod.Namespace, "secret", ref.Name, "error", err)
			continue
		}
		for registry, a := range cfg.Auths {
			n := registryMatch(registry, image)
			if n < 0 {
				continue
			}
			auth := &cri.Auth{
				Username: a.Username, Password: a.Password,
				ServerAddress: registry, IdentityToken: a.IdentityToken, RegistryToken: a.RegistryToken,
			}
			if plain, err := base64.StdEncoding.DecodeString(a.Auth); err == nil && auth.Username == "" {
				auth.Username, auth.Password, _ = strings.Cut(string(plain), ":")
			}
			if n > best {
				best, out = n, append([]*cri.Auth{auth}, out...)
			} else {
				out = append(out, auth)
			}
		}
	}
	return out
}

const dockerHub = "docker.io"

// registryMatch says how many bytes of the image's name an entry of a docker
// configuration covers; -1 if it is for another registry. An entry is a host,
// perhaps with a scheme, a wildcard for a part of the host, and a path.
func registryMatch(entry, image string) int {
	entry = strings.TrimPrefix(strings.TrimPrefix(entry, "https://"), "http://")
	entry = strings.TrimSuffix(entry, "/")
	host, path, _ := strings.Cut(entry, "/")
	if path == "v1" || path == "v2" {
		path = ""
	}
	imageHost, imagePath, ok := strings.Cut(image, "/")
	if !ok || !strings.ContainsAny(imageHost, ".:") && imageHost != "localhost" {
		imageHost, imagePath = dockerHub, image
	}
	if host == "index.docker.io" {
		host = dockerHub
	}
	if !hostMatch(host, imageHost) {
		return -1
	}
	if path != "" && imagePath != path && !strings.HasPrefix(imagePath, path+"/") && !strings.HasPrefix(imagePath, path+":") {
		return -1
	}
	return len(host) + len(path)
}

func hostMatch(pattern, host string) bool {
	p, h := strings.Split(pattern, "."), strings.Split(host, ".")
	if len(p) != len(h) {
		return false
	}
	for i := range p {
		if p[i] != "*" && p[i] != h[i] {
			return false
		}
	}
	return true
}
