package certs

// What `skerry join` and the cloud proxy say to each other, JSON over HTTPS.
// It lives here because the two halves meet in neutral packages only.
const (
	// EnrollPath is where the proxy takes an EnrollRequest by POST.
	EnrollPath = "/enroll/v1"
	// RenewPath is where the proxy takes a RenewRequest by POST. It is for edges whose
	// certificate has expired; others send the same over a stream of their session.
	RenewPath = "/renew/v1"
	// MaxEnrollBody bounds requests and answers. A P-256 CSR takes 500 bytes,
	// a bundle of CA certificates a few thousand.
	MaxEnrollBody = 32 << 10
)

// EnrollRequest asks for an edge's certificate.
type EnrollRequest struct {
	Token        string `json:"token"`
	NodeName     string `json:"nodeName"`
	CSR          string `json:"csr"` // PEM; only its key and signature count
	AgentVersion string `json:"agentVersion,omitempty"`
	OS           string `json:"os,omitempty"`
	Arch         string `json:"arch,omitempty"`
}

// EnrollResponse is what a valid token buys.
type EnrollResponse struct {
	Certificate string `json:"certificate"` // PEM, the edge's
	CA          string `json:"ca"`          // PEM, all CAs to trust
	Cluster     string `json:"cluster"`
	NodeName    string `json:"nodeName"`
}

// RenewRequest asks for an edge's next certificate, with the same identity and for the
// same key. Whoever has the key may ask: the request is signed with it, and the answer is
// of no use without it, so that a copy of either does no harm.
type RenewRequest struct {
	Certificate  string `json:"certificate"` // PEM, the last one
	CSR          string `json:"csr"`         // PEM, of its key
	AgentVersion string `json:"agentVersion,omitempty"`
}

// RenewAnswer holds one of the two.
type RenewAnswer struct {
	Granted *EnrollResponse `json:"granted,omitempty"`
	Refused *EnrollRefusal  `json:"refused,omitempty"`
}

// EnrollCode says why the proxy refused, for programs.
type EnrollCode string

// The codes. Only a caller who knows a token's secret gets one of the precise
// ones; everybody else gets CodeUnauthorized.
const (
	CodeBadRequest   EnrollCode = "bad_request"
	CodeUnauthorized EnrollCode = "unauthorized" // unknown token or wrong secret
	CodeTokenExpired EnrollCode = "token_expired"
	CodeTokenUsed    EnrollCode = "token_used"       // no uses left
	CodeTokenPurpose EnrollCode = "token_purpose"    // a bootstrap token, not for joining
	CodeOtherNode    EnrollCode = "token_other_node" // bound to another node name
	CodeNodeTaken    EnrollCode = "node_taken"       // a node that Skerry does not manage
	CodeRevokedNow   EnrollCode = "revoked_now"      // a revocation covers certificates signed now
	CodeRevoked      EnrollCode = "revoked"          // the certificate to be renewed was
	CodeExpired      EnrollCode = "expired"          // it ended longer ago than the grace time
	CodeTooMany      EnrollCode = "too_many_requests"
	CodeUnavailable  EnrollCode = "unavailable"
)

// Temporary reports whether the same request can succeed later.
func (c EnrollCode) Temporary() bool { return c == CodeTooMany || c == CodeUnavailable }

// EnrollRefusal is the body of every answer but 200.
type EnrollRefusal struct {
	Code EnrollCode `json:"code"`
	Text string     `json:"text"` // for humans; never holds a secret
}
