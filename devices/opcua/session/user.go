package session

import (
	"crypto/rsa"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/gopcua/opcua/ua"

	"github.com/skerry-io/skerry/devices/opcua/channel"
)

// User is whom the server sees. The zero User is anonymous.
type User struct {
	Name, Password string
	// Certificate (DER) and Key make it an X.509 user.
	Certificate []byte
	Key         *rsa.PrivateKey
}

// Kind is the type of token that the user needs.
func (u User) Kind() ua.UserTokenType {
	switch {
	case u.Key != nil:
		return ua.UserTokenTypeCertificate
	case u.Name != "":
		return ua.UserTokenTypeUserName
	}
	return ua.UserTokenTypeAnonymous
}

// identify fills in the user (Part 4, 7.36). A secret is encrypted for the server
// always: without security on the channel the token's own policy must say how.
func (u User) identify(req *ua.ActivateSessionRequest, token *ua.UserTokenPolicy, own channel.Config, server, nonce []byte) error {
	policy := token.SecurityPolicyURI
	if policy == "" {
		policy = own.Policy
	}
	switch u.Kind() {
	case ua.UserTokenTypeCertificate:
		if policy == ua.SecurityPolicyURINone {
			return errors.New("the endpoint has no security policy to prove a user's certificate with")
		}
		algo, err := algorithms(policy, u.Key, server)
		if err != nil {
			return fmt.Errorf("user's certificate: %w", err)
		}
		signature, err := algo.Signature(join(server, nonce))
		if err != nil {
			return fmt.Errorf("user's certificate: %w", err)
		}
		req.UserIdentityToken = ua.NewExtensionObject(&ua.X509IdentityToken{PolicyID: token.PolicyID, CertificateData: u.Certificate})
		req.UserTokenSignature = &ua.SignatureData{Algorithm: algo.SignatureURI(), Signature: signature}
	case ua.UserTokenTypeUserName:
		if policy == ua.SecurityPolicyURINone {
			return errors.New("the endpoint has no security policy to encrypt the password with; choose one with security")
		}
		algo, err := algorithms(policy, own.Key, server)
		if err != nil {
			return fmt.Errorf("password: %w", err)
		}
		secret := binary.LittleEndian.AppendUint32(nil, uint32(len(u.Password)+len(nonce)))
		secret = append(append(secret, u.Password...), nonce...)
		if secret, err = algo.Encrypt(secret); err != nil {
			return fmt.Errorf("password: %w", err)
		}
		req.UserIdentityToken = ua.NewExtensionObject(&ua.UserNameIdentityToken{
			PolicyID: token.PolicyID, UserName: u.Name, Password: secret, EncryptionAlgorithm: algo.EncryptionURI(),
		})
	default:
		req.UserIdentityToken = ua.NewExtensionObject(&ua.AnonymousIdentityToken{PolicyID: token.PolicyID})
	}
	return nil
}
