package opcua

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"hash/fnv"
	"time"

	"github.com/gopcua/opcua/ua"

	"github.com/skerry-io/skerry/devices"
	"github.com/skerry-io/skerry/devices/opcua/discovery"
	"github.com/skerry-io/skerry/devices/opcua/pki"
	"github.com/skerry-io/skerry/devices/opcua/session"
	"github.com/skerry-io/skerry/devices/opcua/subscription"
	"github.com/skerry-io/skerry/devices/v1alpha1"
)

const (
	defaultPublishing = time.Second
	defaultKeepAlive  = 10 * time.Second
	defaultTimeout    = time.Hour
	// The server's queue of a value should outlast an outage of that time.
	queueTime            = 5 * time.Minute
	leastQueue, maxQueue = 10, 1000
)

// settings is a Device as the driver needs it.
type settings struct {
	server   server
	params   subscription.Params
	backfill bool
	items    []*item
	byName   map[string]*item
	methods  map[string]method
	hash     uint32 // of what makes the subscription
}

// server is what devices share a session by.
type server struct {
	url     string
	want    discovery.Want
	timeout time.Duration
	secrets [2]string // of user and trust, with the namespace
	user    v1alpha1.OPCUAUserType
	prints  string
}

type method struct {
	object, method address
	model          v1alpha1.Method
}

var errSecret = errors.New("secret missing or incomplete")

func parse(dev *devices.Device) (*settings, error) {
	spec := dev.Spec.Protocol.OPCUA
	if spec == nil {
		return nil, &devices.ConfigError{Field: "spec.protocol.opcua", Reason: "is missing"}
	}
	if _, err := discovery.Address(spec.URL); err != nil {
		return nil, &devices.ConfigError{Field: "spec.protocol.opcua.url", Reason: err.Error()}
	}
	s := &settings{
		params: subscription.Params{
			Publishing: spec.PublishingInterval.Or(defaultPublishing), KeepAlive: spec.KeepAlive.Or(defaultKeepAlive), Lifetime: spec.SessionTimeout.Or(defaultTimeout),
		},
		backfill: spec.Backfill == nil || *spec.Backfill, byName: map[string]*item{}, methods: map[string]method{},
	}
	var err error
	if s.server, err = parseServer(dev, spec); err != nil {
		return nil, err
	}
	hash := fnv.New32a()
	fmt.Fprint(hash, s.params)
	for i := range dev.Spec.Properties {
		if err := s.addItem(dev, spec, i); err != nil {
			return nil, err
		}
		it := s.items[len(s.items)-1]
		fmt.Fprintf(hash, "%s %s %v %v %v;", it.name, it.address, it.sampling, it.queue, it.filter)
	}
	s.hash = hash.Sum32()
	for i, m := range dev.Spec.Methods {
		model, ok := dev.Method(m.Name)
		if !ok {
			return nil, &devices.ConfigError{Field: fmt.Sprintf("spec.methods[%d].name", i), Reason: "the model has no method " + m.Name}
		}
		object, err := parseAddress(m.OPCUA.ObjectID)
		if err != nil {
			return nil, &devices.ConfigError{Field: fmt.Sprintf("spec.methods[%d].opcua.objectId", i), Reason: err.Error()}
		}
		node, err := parseAddress(m.OPCUA.MethodID)
		if err != nil {
			return nil, &devices.ConfigError{Field: fmt.Sprintf("spec.methods[%d].opcua.methodId", i), Reason: err.Error()}
		}
		s.methods[m.Name] = method{object, node, model}
	}
	return s, nil
}

func parseServer(dev *devices.Device, spec *v1alpha1.OPCUA) (server, error) {
	sv := server{url: spec.URL, timeout: spec.SessionTimeout.Or(defaultTimeout), user: v1alpha1.UserAnonymous}
	switch spec.SecurityPolicy {
	case "", v1alpha1.PolicyBest:
	default:
		uri, ok := discovery.Policy(string(spec.SecurityPolicy))
		if !ok {
			return sv, &devices.ConfigError{Field: "spec.protocol.opcua.securityPolicy", Reason: fmt.Sprintf("%q is none of Best, None, Basic256Sha256, Aes128Sha256RsaOaep, Aes256Sha256RsaPss", spec.SecurityPolicy)}
		}
		sv.want.Policy = uri
	}
	switch spec.SecurityMode {
	case "", v1alpha1.ModeBest:
	case v1alpha1.ModeNone:
		sv.want.Mode = ua.MessageSecurityModeNone
	case v1alpha1.ModeSign:
		sv.want.Mode = ua.MessageSecurityModeSign
	case v1alpha1.ModeSignAndEncrypt:
		sv.want.Mode = ua.MessageSecurityModeSignAndEncrypt
	default:
		return sv, &devices.ConfigError{Field: "spec.protocol.opcua.securityMode", Reason: fmt.Sprintf("%q is none of Best, None, Sign, SignAndEncrypt", spec.SecurityMode)}
	}
	if u := spec.User; u != nil {
		sv.user = u.Type
		if u.Type != v1alpha1.UserAnonymous {
			sv.secrets[0] = dev.Namespace + "/" + u.SecretName
		}
	}
	if t := spec.Trust; t != nil {
		sv.prints = fmt.Sprint(t.Fingerprints)
		if t.SecretName != "" {
			sv.secrets[1] = dev.Namespace + "/" + t.SecretName
		}
	}
	return sv, nil
}

func (s *settings) addItem(dev *devices.Device, spec *v1alpha1.OPCUA, i int) error {
	p := dev.Spec.Properties[i]
	field := fmt.Sprintf("spec.properties[%d]", i)
	model, ok := dev.Property(p.Name)
	if !ok {
		return &devices.ConfigError{Field: field + ".name", Reason: "the model has no property " + p.Name}
	}
	if p.OPCUA == nil {
		return &devices.ConfigError{Field: field + ".opcua", Reason: "is missing"}
	}
	at, err := parseAddress(p.OPCUA.NodeID)
	if err != nil {
		return &devices.ConfigError{Field: field + ".opcua.nodeId", Reason: err.Error()}
	}
	it := &item{
		name: p.Name, address: p.OPCUA.NodeID, at: at, model: model, verify: p.Verify, handle: uint32(i), key: itemKey(p.Name, p.OPCUA.NodeID),
		sampling: p.OPCUA.SamplingInterval.Or(spec.SamplingInterval.Or(s.params.Publishing)), queue: uint32(p.OPCUA.QueueSize),
	}
	if it.queue == 0 {
		it.queue = uint32(spec.QueueSize)
	}
	if it.queue == 0 {
		it.queue = uint32(max(leastQueue, min(maxQueue, queueTime/max(it.sampling, time.Millisecond))))
	}
	if d := p.OPCUA.Deadband; d != nil {
		it.filter, it.deadband = deadbandOf(d, model)
	}
	s.items = append(s.items, it)
	s.byName[it.name] = it
	return nil
}

// deadbandOf gives the filter for the server and, where the range is known, the
// width for us.
func deadbandOf(d *v1alpha1.Deadband, p v1alpha1.Property) (*ua.DataChangeFilter, float64) {
	switch {
	case d.Absolute != nil:
		return &ua.DataChangeFilter{Trigger: ua.DataChangeTriggerStatusValue, DeadbandType: uint32(ua.DeadbandTypeAbsolute), DeadbandValue: *d.Absolute}, *d.Absolute
	case d.Percent != nil:
		width := 0.0
		if p.Min != nil && p.Max != nil {
			width = (*p.Max - *p.Min) * *d.Percent / 100
		}
		return &ua.DataChangeFilter{Trigger: ua.DataChangeTriggerStatusValue, DeadbandType: uint32(ua.DeadbandTypePercent), DeadbandValue: *d.Percent}, width
	}
	return nil, 0
}

// userOf reads who the server is to see.
func userOf(dev *devices.Device) (session.User, error) {
	u := dev.Spec.Protocol.OPCUA.User
	if u == nil || u.Type == v1alpha1.UserAnonymous {
		return session.User{}, nil
	}
	data, ok := dev.Secrets(u.SecretName)
	if !ok {
		return session.User{}, fmt.Errorf("%w: secret %q of spec.protocol.opcua.user", errSecret, u.SecretName)
	}
	if u.Type == v1alpha1.UserName {
		if len(data["username"]) == 0 {
			return session.User{}, fmt.Errorf("%w: secret %q has no username", errSecret, u.SecretName)
		}
		return session.User{Name: string(data["username"]), Password: string(data["password"])}, nil
	}
	block, _ := pem.Decode(data["tls.crt"])
	if block == nil {
		return session.User{}, fmt.Errorf("%w: secret %q has no tls.crt in PEM", errSecret, u.SecretName)
	}
	if _, err := x509.ParseCertificate(block.Bytes); err != nil {
		return session.User{}, fmt.Errorf("%w: secret %q, tls.crt: %w", errSecret, u.SecretName, err)
	}
	key, err := pki.ParseKey(data["tls.key"])
	if err != nil {
		return session.User{}, fmt.Errorf("%w: secret %q, tls.key: %w", errSecret, u.SecretName, err)
	}
	return session.User{Certificate: block.Bytes, Key: key}, nil
}

// trustOf reads which servers the device's configuration believes.
func trustOf(dev *devices.Device) (pki.Trust, error) {
	t := dev.Spec.Protocol.OPCUA.Trust
	if t == nil {
		return pki.Trust{}, nil
	}
	var issuers, revocations []byte
	if t.SecretName != "" {
		data, ok := dev.Secrets(t.SecretName)
		if !ok {
			return pki.Trust{}, fmt.Errorf("%w: secret %q of spec.protocol.opcua.trust", errSecret, t.SecretName)
		}
		issuers, revocations = data["ca.crt"], data["ca.crl"]
	}
	trust, err := pki.ParseTrust(append([]string{}, t.Fingerprints...), issuers, revocations)
	if err != nil {
		return trust, fmt.Errorf("%w: secret %q: %w", errSecret, t.SecretName, err)
	}
	return trust, nil
}
