package v1alpha1

// SecurityPolicy is one of OPC UA's (Part 7), by the end of its URI.
//
// +kubebuilder:validation:Enum=Best;None;Basic256Sha256;Aes128Sha256RsaOaep;Aes256Sha256RsaPss
type SecurityPolicy string

// The security policies. Best is the best that the server offers, never None.
const (
	PolicyBest                SecurityPolicy = "Best"
	PolicyNone                SecurityPolicy = "None"
	PolicyBasic256Sha256      SecurityPolicy = "Basic256Sha256"
	PolicyAes128Sha256RsaOaep SecurityPolicy = "Aes128Sha256RsaOaep"
	PolicyAes256Sha256RsaPss  SecurityPolicy = "Aes256Sha256RsaPss"
)

// SecurityMode is what is done with messages (Part 4, 7.20).
//
// +kubebuilder:validation:Enum=Best;None;Sign;SignAndEncrypt
type SecurityMode string

// The security modes. Best is SignAndEncrypt where offered, else Sign, never
// None.
const (
	ModeBest           SecurityMode = "Best"
	ModeNone           SecurityMode = "None"
	ModeSign           SecurityMode = "Sign"
	ModeSignAndEncrypt SecurityMode = "SignAndEncrypt"
)

// OPCUA is a server of OPC UA and how to talk to it.
//
// +kubebuilder:validation:XValidation:rule="(has(self.securityPolicy) && self.securityPolicy == 'None') == (has(self.securityMode) && self.securityMode == 'None')",message="securityPolicy None and securityMode None go together: a line without security needs both"
type OPCUA struct {
	// URL is that of the server, such as opc.tcp://plc.example:4840/path.
	//
	// +kubebuilder:validation:MaxLength=1024
	// +kubebuilder:validation:XValidation:rule="self.matches('^opc[.]tcp://[^/ ]+(/[^ ]*)?$')",message="url must be opc.tcp://HOST:PORT or opc.tcp://HOST:PORT/PATH"
	URL string `json:"url"`
	// SecurityPolicy is the one to use, and no other.
	//
	// +optional
	// +kubebuilder:default=Best
	SecurityPolicy SecurityPolicy `json:"securityPolicy,omitempty"`
	// SecurityMode is the one to use, and no other.
	//
	// +optional
	// +kubebuilder:default=Best
	SecurityMode SecurityMode `json:"securityMode,omitempty"`
	// User is whom the server sees; nil is anonymous.
	//
	// +optional
	User *OPCUAUser `json:"user,omitempty"`
	// Trust says which certificates of servers are believed.
	//
	// +optional
	Trust *OPCUATrust `json:"trust,omitempty"`
	// PublishingInterval is how often the server sends what it has sampled, 1s
	// by default.
	//
	// +optional
	// +kubebuilder:validation:XValidation:rule="self >= duration('10ms') && self <= duration('1h')",message="publishingInterval must be from 10ms to 1h"
	PublishingInterval *Duration `json:"publishingInterval,omitempty"`
	// KeepAlive is how often a server with nothing to send says that it is
	// there, 10s by default. Three missing ones are a dead connection.
	//
	// +optional
	// +kubebuilder:validation:XValidation:rule="self >= duration('100ms') && self <= duration('1h')",message="keepAlive must be from 100ms to 1h"
	KeepAlive *Duration `json:"keepAlive,omitempty"`
	// SessionTimeout is how long the server keeps session and subscriptions
	// when it can't reach us, 1h by default.
	//
	// +optional
	// +kubebuilder:validation:XValidation:rule="self >= duration('10s') && self <= duration('24h')",message="sessionTimeout must be from 10s to 24h"
	SessionTimeout *Duration `json:"sessionTimeout,omitempty"`
	// SamplingInterval is for properties that don't say; nil is the publishing
	// interval.
	//
	// +optional
	SamplingInterval *Duration `json:"samplingInterval,omitempty"`
	// QueueSize is for properties that don't say: how many values the server
	// keeps of each while it can't send; 0 is the driver's choice.
	//
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=100000
	QueueSize int32 `json:"queueSize,omitempty"`
	// Backfill has a gap filled from the server's history where it keeps one;
	// nil is true.
	//
	// +optional
	Backfill *bool `json:"backfill,omitempty"`
}

// OPCUAUserType is how a user proves who they are (Part 4, 7.40).
//
// +kubebuilder:validation:Enum=Anonymous;UserName;Certificate
type OPCUAUserType string

// The kinds of users.
const (
	UserAnonymous   OPCUAUserType = "Anonymous"
	UserName        OPCUAUserType = "UserName"
	UserCertificate OPCUAUserType = "Certificate"
)

// OPCUAUser is whom the server sees.
//
// +kubebuilder:validation:XValidation:rule="(self.type == 'Anonymous') != has(self.secretName)",message="user types UserName and Certificate need secretName, Anonymous has none"
type OPCUAUser struct {
	// Type is Anonymous, UserName or Certificate.
	Type OPCUAUserType `json:"type"`
	// SecretName is a Secret in the Device's namespace: username and password
	// (kubernetes.io/basic-auth), or tls.crt and tls.key (kubernetes.io/tls).
	//
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	SecretName string `json:"secretName,omitempty"`
}

// OPCUATrust says which certificates of servers are believed. A server with a
// certificate that is not shows it in the Device's status.
type OPCUATrust struct {
	// Fingerprints are SHA-256 hashes of whole certificates (DER), 64
	// hexadecimal digits; colons may be between them.
	//
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=16
	// +kubebuilder:validation:items:MaxLength=95
	// +kubebuilder:validation:items:Pattern=`^([0-9A-Fa-f]{2}:?){31}[0-9A-Fa-f]{2}$`
	Fingerprints []string `json:"fingerprints,omitempty"`
	// SecretName is a Secret in the Device's namespace with ca.crt, the
	// certificates of issuers that are believed, and ca.crl, their revocation
	// lists, all PEM.
	//
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	SecretName string `json:"secretName,omitempty"`
}

// OPCUAProperty is where a property is on a server.
type OPCUAProperty struct {
	// NodeID is the node's address with the namespace's URI, since its number
	// changes with the server's start: nsu=http://vendor/;s=Line1.Speed. Nodes
	// of OPC UA itself may be i=2258.
	//
	// +kubebuilder:validation:MaxLength=1024
	// +kubebuilder:validation:Pattern=`^(nsu=[^;]+;)?(i=[0-9]+|s=.+|g=[0-9A-Fa-f-]{36}|b=[A-Za-z0-9+/=]+)$`
	// +kubebuilder:validation:XValidation:rule="!self.startsWith('ns=')",message="nodeId must have its namespace by URI, as in nsu=http://vendor/;s=NAME: numbered namespaces (ns=2) change with the server's start"
	NodeID string `json:"nodeId"`
	// SamplingInterval is how often the server looks at the value; nil is that
	// of spec.protocol.opcua.
	//
	// +optional
	SamplingInterval *Duration `json:"samplingInterval,omitempty"`
	// QueueSize is how many values the server keeps while it can't send; 0 is
	// that of spec.protocol.opcua.
	//
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=100000
	QueueSize int32 `json:"queueSize,omitempty"`
	// Deadband has the server leave out small changes; where it refuses, the
	// edge does.
	//
	// +optional
	Deadband *Deadband `json:"deadband,omitempty"`
}

// OPCUAMethod is where a method is on a server.
type OPCUAMethod struct {
	// ObjectID is the node of the object whose method it is.
	//
	// +kubebuilder:validation:MaxLength=1024
	// +kubebuilder:validation:Pattern=`^(nsu=[^;]+;)?(i=[0-9]+|s=.+|g=[0-9A-Fa-f-]{36}|b=[A-Za-z0-9+/=]+)$`
	// +kubebuilder:validation:XValidation:rule="!self.startsWith('ns=')",message="objectId must have its namespace by URI, as in nsu=http://vendor/;s=NAME: numbered namespaces (ns=2) change with the server's start"
	ObjectID string `json:"objectId"`
	// MethodID is the method's own node.
	//
	// +kubebuilder:validation:MaxLength=1024
	// +kubebuilder:validation:Pattern=`^(nsu=[^;]+;)?(i=[0-9]+|s=.+|g=[0-9A-Fa-f-]{36}|b=[A-Za-z0-9+/=]+)$`
	// +kubebuilder:validation:XValidation:rule="!self.startsWith('ns=')",message="methodId must have its namespace by URI, as in nsu=http://vendor/;s=NAME: numbered namespaces (ns=2) change with the server's start"
	MethodID string `json:"methodId"`
}
