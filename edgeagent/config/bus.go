package config

import (
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"path/filepath"
	"strconv"
)

// Bus is the local bus: MQTT for programs beside the devices, with a cloud or without one.
// devices/DESIGN.md has its topics and payloads. With neither Listen nor Broker, as by
// default, there is none, which costs no memory.
type Bus struct {
	// Listen is where the agent's own broker listens, HOST:PORT, such as 127.0.0.1:1883;
	// empty means that it has none. Pods with a network of their own reach an address of
	// the machine, not 127.0.0.1.
	Listen string `json:"listen,omitempty"`
	// UsersFile says who may connect to the agent's broker, and do what. Nobody but its
	// owner and group may use it.
	UsersFile string `json:"usersFile,omitempty"`
	// CertFile and KeyFile are for TLS at Listen; they are read for each connection.
	CertFile string `json:"certFile,omitempty"`
	KeyFile  string `json:"keyFile,omitempty"`
	// MaxClients bounds the clients of the agent's broker; 0 means 32.
	MaxClients int `json:"maxClients,omitempty"`
	// Broker is another broker that speaks MQTT 5, in place of the agent's own:
	// mqtt://HOST:PORT, or mqtts://HOST:PORT for TLS.
	Broker string `json:"broker,omitempty"`
	// CAFile has who signs that broker's certificate; empty means whom the machine trusts.
	CAFile string `json:"caFile,omitempty"`
	// UserName and PasswordFile are what that broker asks for.
	UserName     string `json:"userName,omitempty"`
	PasswordFile string `json:"passwordFile,omitempty"`
}

// maxBusClients bounds MaxClients: each may have megabytes that wait for it.
const maxBusClients = 1024

func (b *Bus) validate() error {
	for _, f := range []struct{ field, path string }{
		{"bus.usersFile", b.UsersFile}, {"bus.certFile", b.CertFile}, {"bus.keyFile", b.KeyFile}, {"bus.caFile", b.CAFile}, {"bus.passwordFile", b.PasswordFile},
	} {
		if f.path != "" && !filepath.IsAbs(f.path) {
			return &Error{f.field, fmt.Sprintf("%q is not an absolute path", f.path)}
		}
	}
	if b.Listen != "" && b.Broker != "" {
		return &Error{"bus.broker", "and bus.listen are two brokers: take one of them out"}
	}
	if err := b.validateListen(); err != nil {
		return err
	}
	return b.validateBroker()
}

func (b *Bus) validateListen() error {
	if b.Listen == "" {
		for _, f := range []struct {
			field string
			set   bool
		}{
			{"bus.usersFile", b.UsersFile != ""}, {"bus.certFile", b.CertFile != ""}, {"bus.keyFile", b.KeyFile != ""}, {"bus.maxClients", b.MaxClients != 0},
		} {
			if f.set {
				return &Error{f.field, "is for the agent's own broker: set bus.listen, such as 127.0.0.1:1883, or take it out"}
			}
		}
		return nil
	}
	host, port, err := net.SplitHostPort(b.Listen)
	if err != nil {
		return &Error{"bus.listen", fmt.Sprintf("%q is not of the form HOST:PORT", b.Listen)}
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return &Error{"bus.listen", fmt.Sprintf("port %q is not a number from 1 to 65535", port)}
	}
	if host == "" {
		return &Error{"bus.listen", fmt.Sprintf("%q listens on each address of the machine, also those of the network outside: name one, or say 0.0.0.0%s", b.Listen, b.Listen)}
	}
	if _, err := netip.ParseAddr(host); err != nil && host != "localhost" {
		return &Error{"bus.listen", fmt.Sprintf("%q is not an IP address", host)}
	}
	switch {
	case b.UsersFile == "":
		return &Error{"bus.usersFile", "is missing: it says who may connect to bus.listen"}
	case (b.CertFile == "") != (b.KeyFile == ""):
		return &Error{"bus.keyFile", "and bus.certFile need each other"}
	case b.MaxClients < 0 || b.MaxClients > maxBusClients:
		return &Error{"bus.maxClients", fmt.Sprintf("is %d, must be from 1 to %d, or 0 for the default", b.MaxClients, maxBusClients)}
	}
	return nil
}

func (b *Bus) validateBroker() error {
	if b.Broker == "" {
		for _, f := range []struct{ field, value string }{{"bus.caFile", b.CAFile}, {"bus.userName", b.UserName}, {"bus.passwordFile", b.PasswordFile}} {
			if f.value != "" {
				return &Error{f.field, "is for another broker: set bus.broker, such as mqtt://broker:1883, or take it out"}
			}
		}
		return nil
	}
	u, err := url.Parse(b.Broker)
	switch {
	case err != nil || u.Scheme != "mqtt" && u.Scheme != "mqtts" || u.Hostname() == "" || u.Path != "" || u.RawQuery != "":
		return &Error{"bus.broker", "is not of the form mqtt://HOST:PORT or mqtts://HOST:PORT"}
	case u.User != nil:
		return &Error{"bus.broker", "has a user in it: say it in bus.userName, and the password in the file bus.passwordFile"}
	case b.CAFile != "" && u.Scheme != "mqtts":
		return &Error{"bus.caFile", "is for TLS: say mqtts:// in bus.broker"}
	case b.PasswordFile != "" && b.UserName == "":
		return &Error{"bus.userName", "is missing, there is a bus.passwordFile"}
	}
	return nil
}
