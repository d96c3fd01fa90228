package pods

import (
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Services reads services as far as environment variables tell of them. Its errors
// for what is not there wrap ErrNotFound.
type Services interface {
	Service(namespace, name string) (*corev1.Service, error)
	// ServiceLinks reads all services of a namespace.
	ServiceLinks(namespace string) (*corev1.ServiceList, error)
}

type noServices struct{}

func (noServices) Service(string, string) (*corev1.Service, error)  { return nil, ErrNotFound }
func (noServices) ServiceLinks(string) (*corev1.ServiceList, error) { return nil, ErrNotFound }

// apiService tells every pod where the API is, whatever its namespace and
// enableServiceLinks say.
const apiService = "kubernetes"

// serviceVars are the variables of the services that a pod is told of. A service
// that is not known is left out: a pod starts before the first contact with a cloud.
func (e *env) serviceVars(pod *corev1.Pod) (map[string]string, error) {
	vars := map[string]string{}
	own := false // the pod's namespace has a service of that name
	if links := pod.Spec.EnableServiceLinks; links == nil || *links {
		list, err := e.Services.ServiceLinks(pod.Namespace)
		if err != nil && !errors.Is(err, ErrNotFound) {
			return nil, fmt.Errorf("services of namespace %s: %w", pod.Namespace, err)
		}
		if err == nil {
			for i := range list.Items {
				addServiceVars(vars, &list.Items[i])
				own = own || list.Items[i].Name == apiService
			}
		}
	}
	if own {
		return vars, nil
	}
	s, err := e.Services.Service(metav1.NamespaceDefault, apiService)
	switch {
	case err == nil:
		addServiceVars(vars, s)
	case !errors.Is(err, ErrNotFound):
		return nil, fmt.Errorf("service %s: %w", apiService, err)
	}
	return vars, nil
}

// addServiceVars adds what a container is told of one service: host and ports, and
// the same as links of Docker's containers had it.
func addServiceVars(vars map[string]string, s *corev1.Service) {
	ip := s.Spec.ClusterIP
	if ip == "" || ip == corev1.ClusterIPNone || len(s.Spec.Ports) == 0 {
		return
	}
	prefix := variableName(s.Name)
	vars[prefix+"_SERVICE_HOST"] = ip
	for i := range s.Spec.Ports {
		p := &s.Spec.Ports[i]
		port := strconv.Itoa(int(p.Port))
		protocol := string(p.Protocol)
		if protocol == "" {
			protocol = string(corev1.ProtocolTCP)
		}
		small := strings.ToLower(protocol)
		url := small + "://" + net.JoinHostPort(ip, port)
		if i == 0 {
			vars[prefix+"_SERVICE_PORT"] = port
			vars[prefix+"_PORT"] = url
		}
		if p.Name != "" {
			vars[prefix+"_SERVICE_PORT_"+variableName(p.Name)] = port
		}
		link := prefix + "_PORT_" + port + "_" + strings.ToUpper(protocol)
		vars[link] = url
		vars[link+"_PROTO"] = small
		vars[link+"_PORT"] = port
		vars[link+"_ADDR"] = ip
	}
}

func variableName(s string) string { return strings.ToUpper(strings.ReplaceAll(s, "-", "_")) }
