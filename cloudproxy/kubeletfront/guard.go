package kubeletfront

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apiserver/pkg/authentication/authenticator"
	"k8s.io/apiserver/pkg/authentication/authenticatorfactory"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	"k8s.io/apiserver/pkg/authorization/authorizerfactory"
	"k8s.io/apiserver/pkg/server/dynamiccertificates"
	"k8s.io/client-go/kubernetes"

	"github.com/skerry-io/skerry/cloudproxy/status"
)

// How long answers of the API may be used again. A right that was taken away
// lasts that long here; a refusal less, for whoever has just been given one.
const (
	authenticationTTL = time.Minute
	allowTTL          = time.Minute
	denyTTL           = 10 * time.Second
	reviewTimeout     = 10 * time.Second
)

// guard decides who may come in.
type guard struct {
	authn authenticator.Request
	authz authorizer.UnconditionalAuthorizer
	ca    *dynamiccertificates.ConfigMapCAController
	log   *slog.Logger
}

func newGuard(client kubernetes.Interface, log *slog.Logger) (*guard, error) {
	ca, err := dynamiccertificates.NewDynamicCAFromConfigMapController("client-ca",
		"kube-system", "extension-apiserver-authentication", "client-ca-file", client)
	if err != nil {
		return nil, fmt.Errorf("watch the cluster's client CA: %w", err)
	}
	backoff := &wait.Backoff{Duration: 200 * time.Millisecond, Factor: 2, Jitter: 0.2, Steps: 4}
	authn, _, err := authenticatorfactory.DelegatingAuthenticatorConfig{
		TokenAccessReviewClient:            client.AuthenticationV1(),
		TokenAccessReviewTimeout:           reviewTimeout,
		WebhookRetryBackoff:                backoff,
		CacheTTL:                           authenticationTTL,
		ClientCertificateCAContentProvider: ca,
	}.New()
	if err != nil {
		return nil, fmt.Errorf("make the authenticator: %w", err)
	}
	authz, err := authorizerfactory.DelegatingAuthorizerConfig{
		SubjectAccessReviewClient: client.AuthorizationV1(),
		AllowCacheTTL:             allowTTL,
		DenyCacheTTL:              denyTTL,
		WebhookRetryBackoff:       backoff,
	}.New()
	if err != nil {
		return nil, fmt.Errorf("make the authorizer: %w", err)
	}
	return &guard{authn: authn, authz: authz, ca: ca, log: log}, nil
}

// run keeps the client CA up to date until ctx ends.
func (g *guard) run(ctx context.Context) { g.ca.Run(ctx, 1) }

// authenticate tells who a request comes from.
func (g *guard) authenticate(r *http.Request) (user.Info, bool) {
	resp, ok, err := g.authn.AuthenticateRequest(r)
	if err != nil {
		g.log.Debug("request not authenticated", "remote", r.RemoteAddr, "error", err)
	}
	if err != nil || !ok {
		return nil, false
	}
	return resp.User, true
}

// authorize asks whether a user may do what t asks for at node. One allowed
// subresource is enough. An empty node means every node.
func (g *guard) authorize(ctx context.Context, who user.Info, t target, node string) error {
	subresources := subresources(t.path)
	for _, sub := range subresources {
		decision, _, err := g.authz.Authorize(ctx, authorizer.AttributesRecord{
			User: who, Verb: t.verb, APIVersion: "v1", Resource: "nodes", Subresource: sub,
			Name: node, ResourceRequest: true, Path: t.path,
		})
		if err != nil {
			g.log.Warn("authorization failed", "user", who.GetName(), "node", node, "error", err)
			return &refusal{http.StatusInternalServerError, fmt.Sprintf("Authorization error (user=%s, verb=%s, resource=nodes, subresource=%s)", who.GetName(), t.verb, sub)}
		}
		if decision == authorizer.DecisionAllow {
			return nil
		}
	}
	g.log.Info("request forbidden", "user", who.GetName(), "node", node, "verb", t.verb, "path", t.path)
	return &refusal{http.StatusForbidden, fmt.Sprintf("Forbidden (user=%s, verb=%s, resource=nodes, subresource(s)=%v)\n", who.GetName(), t.verb, subresources)}
}

// subresources gives the subresources of nodes of which one must be allowed for
// a path: the kubelet's own table, and what this server adds.
func subresources(path string) []string {
	if path == status.Path {
		return []string{"stats", "proxy"}
	}
	first, _, _ := strings.Cut(strings.TrimPrefix(path, "/"), "/")
	switch first {
	case "stats", "metrics", "checkpoint", "statusz":
		return []string{first}
	case "logs":
		return []string{"log"} // as the subresource of pods is called
	case "flagz":
		return []string{"configz"}
	case "pods", "allocatedPods", "runningpods":
		return []string{"pods", "proxy"}
	case "healthz", "configz":
		return []string{first, "proxy"}
	}
	return []string{"proxy"}
}
