package discovery

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/gopcua/opcua/ua"
)

// Want is what an endpoint must have.
type Want struct {
	Policy string                 // URI, "" the best but None
	Mode   ua.MessageSecurityMode // Invalid (0) the best but None
	User   ua.UserTokenType
}

// Choice is an endpoint and how the user is named there.
type Choice struct {
	Endpoint *ua.EndpointDescription
	Token    *ua.UserTokenPolicy
}

// ErrNoEndpoint is in the chain when no endpoint has what is wanted.
var ErrNoEndpoint = errors.New("no endpoint with what is wanted")

const binary = "http://opcfoundation.org/UA-Profile/Transport/uatcp-uasc-uabinary"

// rank orders policies; 0 is one that is not used: None, and those that the OPC
// Foundation withdrew (SHA-1).
func rank(policy string) int {
	return 1 + slices.Index([]string{
		ua.SecurityPolicyURIBasic256Sha256, ua.SecurityPolicyURIAes128Sha256RsaOaep, ua.SecurityPolicyURIAes256Sha256RsaPss,
	}, policy)
}

// Choose takes the best endpoint: SignAndEncrypt before Sign, then the stronger
// policy. The server's own SecurityLevel decides between equals only: whoever
// changes an answer on its way writes it.
func Choose(endpoints []*ua.EndpointDescription, w Want) (Choice, error) {
	var best Choice
	var offered []string
	for _, e := range endpoints {
		if e.TransportProfileURI != "" && e.TransportProfileURI != binary || !strings.HasPrefix(e.EndpointURL, "opc.tcp:") {
			continue
		}
		offered = append(offered, Describe(e))
		if !usable(e, w) {
			continue
		}
		token := tokenFor(e, w.User)
		if token == nil {
			continue
		}
		if best.Endpoint == nil || better(e, best.Endpoint) {
			best = Choice{e, token}
		}
	}
	if best.Endpoint == nil {
		slices.Sort(offered)
		return best, fmt.Errorf("%w: want %s; the server offers %s", ErrNoEndpoint, w, strings.Join(slices.Compact(offered), ", "))
	}
	return best, nil
}

func usable(e *ua.EndpointDescription, w Want) bool {
	secure := rank(e.SecurityPolicyURI) > 0 && (e.SecurityMode == ua.MessageSecurityModeSign || e.SecurityMode == ua.MessageSecurityModeSignAndEncrypt)
	none := e.SecurityPolicyURI == ua.SecurityPolicyURINone && e.SecurityMode == ua.MessageSecurityModeNone
	askedNone := w.Policy == ua.SecurityPolicyURINone || w.Mode == ua.MessageSecurityModeNone
	switch {
	case w.Policy != "" && e.SecurityPolicyURI != w.Policy, w.Mode != ua.MessageSecurityModeInvalid && e.SecurityMode != w.Mode:
		return false
	case secure:
		return true
	}
	return none && askedNone
}

func better(a, b *ua.EndpointDescription) bool {
	if a.SecurityMode != b.SecurityMode {
		return a.SecurityMode > b.SecurityMode
	}
	if ra, rb := rank(a.SecurityPolicyURI), rank(b.SecurityPolicyURI); ra != rb {
		return ra > rb
	}
	return a.SecurityLevel > b.SecurityLevel
}

// tokenFor is the policy for a kind of user whose secret can be protected.
func tokenFor(e *ua.EndpointDescription, kind ua.UserTokenType) *ua.UserTokenPolicy {
	var found *ua.UserTokenPolicy
	for _, t := range e.UserIdentityTokens {
		if t == nil || t.TokenType != kind || t.SecurityPolicyURI != "" && t.SecurityPolicyURI != ua.SecurityPolicyURINone && rank(t.SecurityPolicyURI) == 0 {
			continue
		}
		if found == nil || rank(t.SecurityPolicyURI) > rank(found.SecurityPolicyURI) {
			found = t
		}
	}
	if found == nil && kind == ua.UserTokenTypeAnonymous && len(e.UserIdentityTokens) == 0 {
		return &ua.UserTokenPolicy{TokenType: kind}
	}
	return found
}

// policies are the URIs of the policies that are used, by their names in a Device,
// which has none of the underscores that two of the URIs have.
func policies() []string {
	return []string{
		ua.SecurityPolicyURINone, ua.SecurityPolicyURIBasic256Sha256, ua.SecurityPolicyURIAes128Sha256RsaOaep, ua.SecurityPolicyURIAes256Sha256RsaPss,
	}
}

// PolicyName is a policy's name in a Device.
func PolicyName(uri string) string {
	return strings.ReplaceAll(uri[strings.LastIndexByte(uri, '#')+1:], "_", "")
}

// Policy is the URI of a name in a Device, false for one that is not used.
func Policy(name string) (uri string, ok bool) {
	for _, uri := range policies() {
		if PolicyName(uri) == name {
			return uri, true
		}
	}
	return "", false
}

// Describe is an endpoint for people: its policy and mode.
func Describe(e *ua.EndpointDescription) string {
	return PolicyName(e.SecurityPolicyURI) + "/" + mode(e.SecurityMode)
}

func mode(m ua.MessageSecurityMode) string {
	return strings.TrimPrefix(m.String(), "MessageSecurityMode")
}

func (w Want) String() string {
	policy, m := "the best policy", "the best mode"
	if w.Policy != "" {
		policy = PolicyName(w.Policy)
	}
	if w.Mode != ua.MessageSecurityModeInvalid {
		m = mode(w.Mode)
	}
	return fmt.Sprintf("%s, %s, user %s", policy, m, strings.TrimPrefix(w.User.String(), "UserTokenType"))
}

// Same reports an error when the endpoints that the session tells under protection
// are not those that were discovered without: somebody between left out the better
// ones (Part 4, 5.6.2.2).
func Same(discovered, told []*ua.EndpointDescription) error {
	keys := func(list []*ua.EndpointDescription) []string {
		var out []string
		for _, e := range list {
			if e != nil && (e.TransportProfileURI == "" || e.TransportProfileURI == binary) {
				out = append(out, Describe(e))
			}
		}
		slices.Sort(out)
		return slices.Compact(out)
	}
	if a, b := keys(discovered), keys(told); !slices.Equal(a, b) {
		return fmt.Errorf("%w: discovery told %v, the session tells %v", errChanged, a, b)
	}
	return nil
}

var errChanged = errors.New("the list of endpoints was changed on its way")
