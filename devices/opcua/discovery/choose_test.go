package discovery_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/gopcua/opcua/ua"

	"github.com/skerry-io/skerry/devices/opcua/discovery"
)

func endpoint(policy string, mode ua.MessageSecurityMode, level uint8, users ...ua.UserTokenType) *ua.EndpointDescription {
	e := &ua.EndpointDescription{EndpointURL: "opc.tcp://x:4840", SecurityPolicyURI: policy, SecurityMode: mode, SecurityLevel: level, Server: &ua.ApplicationDescription{}}
	for _, u := range users {
		e.UserIdentityTokens = append(e.UserIdentityTokens, &ua.UserTokenPolicy{PolicyID: u.String(), TokenType: u})
	}
	return e
}

func TestChoose(t *testing.T) {
	const sign, encrypt, none = ua.MessageSecurityModeSign, ua.MessageSecurityModeSignAndEncrypt, ua.MessageSecurityModeNone
	const anonymous, name = ua.UserTokenTypeAnonymous, ua.UserTokenTypeUserName
	nothing := endpoint(ua.SecurityPolicyURINone, none, 255, anonymous, name)
	old := endpoint(ua.SecurityPolicyURIBasic256, encrypt, 200, anonymous)
	signed := endpoint(ua.SecurityPolicyURIAes256Sha256RsaPss, sign, 100, anonymous)
	basic := endpoint(ua.SecurityPolicyURIBasic256Sha256, encrypt, 1, anonymous, name)
	best := endpoint(ua.SecurityPolicyURIAes256Sha256RsaPss, encrypt, 0, anonymous)
	https := endpoint(ua.SecurityPolicyURIAes256Sha256RsaPss, encrypt, 0, anonymous)
	https.EndpointURL = "https://x"
	for what, tt := range map[string]struct {
		in   []*ua.EndpointDescription
		want discovery.Want
		out  *ua.EndpointDescription
	}{
		"the best, whatever levels say": {[]*ua.EndpointDescription{nothing, old, signed, basic, best, https}, discovery.Want{}, best},
		"encryption before the policy":  {[]*ua.EndpointDescription{signed, basic}, discovery.Want{}, basic},
		"one that takes the user":       {[]*ua.EndpointDescription{best, basic, nothing}, discovery.Want{User: name}, basic},
		"never None by itself":          {[]*ua.EndpointDescription{nothing, old}, discovery.Want{}, nil},
		"None when asked for":           {[]*ua.EndpointDescription{nothing, best}, discovery.Want{Policy: ua.SecurityPolicyURINone}, nothing},
		"None by mode":                  {[]*ua.EndpointDescription{nothing, best}, discovery.Want{Mode: none}, nothing},
		"no other than asked for":       {[]*ua.EndpointDescription{best, nothing}, discovery.Want{Policy: ua.SecurityPolicyURIBasic256Sha256}, nil},
		"nothing":                       {nil, discovery.Want{}, nil},
	} {
		got, err := discovery.Choose(tt.in, tt.want)
		if got.Endpoint != tt.out || (err != nil) != (tt.out == nil) || err != nil && !errors.Is(err, discovery.ErrNoEndpoint) {
			t.Errorf("%s: %v, %v", what, got.Endpoint, err)
		}
	}
	_, err := discovery.Choose([]*ua.EndpointDescription{nothing}, discovery.Want{})
	if !strings.Contains(err.Error(), "the server offers None/None") {
		t.Errorf("%v does not say what there is", err)
	}
	if discovery.Same([]*ua.EndpointDescription{best, nothing}, []*ua.EndpointDescription{nothing, best, best}) != nil {
		t.Error("the same endpoints in another order")
	}
	if discovery.Same([]*ua.EndpointDescription{nothing}, []*ua.EndpointDescription{nothing, best}) == nil {
		t.Error("the better endpoint was left out on the way")
	}
}
