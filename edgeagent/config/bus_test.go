package config

import (
	"strings"
	"testing"
)

func TestBus(t *testing.T) {
	for _, test := range []struct {
		name, yaml, want string
	}{
		{"none", "", ""},
		{"own", "bus: {listen: '127.0.0.1:1883', usersFile: /etc/skerry/bus-users.yaml}", ""},
		{"own with TLS", "bus: {listen: '[::1]:8883', usersFile: /u, certFile: /c, keyFile: /k, maxClients: 4}", ""},
		{"other", "bus: {broker: 'mqtt://broker:1883'}", ""},
		{"other with all", "bus: {broker: 'mqtts://broker', caFile: /ca, userName: edge, passwordFile: /p}", ""},
		{"both", "bus: {listen: '127.0.0.1:1883', usersFile: /u, broker: 'mqtt://b:1'}", "take one of them out"},
		{"no users", "bus: {listen: '127.0.0.1:1883'}", "bus.usersFile: is missing"},
		{"no port", "bus: {listen: 127.0.0.1, usersFile: /u}", "HOST:PORT"},
		{"port 0", "bus: {listen: '127.0.0.1:0', usersFile: /u}", "from 1 to 65535"},
		{"everywhere", "bus: {listen: ':1883', usersFile: /u}", "say 0.0.0.0:1883"},
		{"a name", "bus: {listen: 'edge:1883', usersFile: /u}", "not an IP address"},
		{"half a pair", "bus: {listen: '127.0.0.1:1883', usersFile: /u, certFile: /c}", "need each other"},
		{"many", "bus: {listen: '127.0.0.1:1883', usersFile: /u, maxClients: 2000}", "from 1 to 1024"},
		{"users of none", "bus: {usersFile: /u}", "set bus.listen"},
		{"relative", "bus: {listen: '127.0.0.1:1883', usersFile: users}", "absolute path"},
		{"http", "bus: {broker: 'http://broker'}", "mqtt://HOST:PORT"},
		{"user in it", "bus: {broker: 'mqtt://a:b@broker'}", "bus.userName"},
		{"CA without TLS", "bus: {broker: 'mqtt://broker', caFile: /ca}", "say mqtts://"},
		{"password without user", "bus: {broker: 'mqtt://broker', passwordFile: /p}", "bus.userName: is missing"},
		{"CA of none", "bus: {caFile: /ca}", "set bus.broker"},
	} {
		c, err := Parse([]byte("apiVersion: skerry.io/v1alpha1\nkind: EdgeAgentConfig\nserver: c:1\nnodeName: e\n" + test.yaml + "\n"))
		if err != nil {
			t.Fatalf("%s: %v", test.name, err)
		}
		err = c.Validate()
		if (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v, want %q", test.name, err, test.want)
		}
		text, err := c.Marshal()
		if err != nil || strings.Contains(string(text), "bus:") != (test.yaml != "") {
			t.Errorf("%s: %v: %s", test.name, err, text)
		}
	}
}
