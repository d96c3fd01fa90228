package onboard

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// As KubeEdge's documents and samples have them.
const (
	keThermometerModel = `{"apiVersion":"devices.kubeedge.io/v1beta1","kind":"DeviceModel","metadata":{"name":"thermometer","namespace":"plant"},"spec":{"protocol":"modbus","properties":[
		{"name":"temperature","description":"of the oven","type":"INT","accessMode":"ReadWrite","minimum":"0","maximum":"100","unit":"°C"},
		{"name":"heat rate","type":"FLOAT","accessMode":"ReadOnly"},
		{"name":"on","type":"BOOLEAN","accessMode":"ReadWrite"},
		{"name":"count","type":"INT","accessMode":"ReadOnly"},
		{"name":"camera","type":"STREAM"}]}}`
	keThermometer = `{"apiVersion":"devices.kubeedge.io/v1beta1","kind":"Device","metadata":{"name":"oven-1"},"spec":{"deviceModelRef":{"name":"thermometer"},"nodeName":"edge-1",
		"protocol":{"protocolName":"modbus","configData":{"ip":"172.17.0.3","port":1502,"slaveID":3}},
		"methods":[{"name":"setAll","propertyNames":["on"]}],
		"properties":[
		{"name":"temperature","collectCycle":10000,"reportCycle":20000,"reportToCloud":true,"desired":{"value":"30"},"pushMethod":{"mqtt":{"address":"tcp://x:1883"}},
		 "visitors":{"protocolName":"modbus","configData":{"register":"HoldingRegister","offset":2,"limit":1,"scale":1,"isSwap":true,"isRegisterSwap":true}}},
		{"name":"heat rate","collectCycle":5000000000,"visitors":{"protocolName":"modbus","configData":{"register":"InputRegister","offset":10,"limit":2,"isRegisterSwap":true,"scale":0.1}}},
		{"name":"on","desired":{"value":"maybe"},"visitors":{"configData":{"register":"CoilRegister","offset":1}}},
		{"name":"count","visitors":{"configData":{"register":"CoilRegister","offset":2}}},
		{"name":"camera","visitors":{"configData":{}}},
		{"name":"gone"}]}}`
	keServer = `{"apiVersion":"v1","kind":"List","items":[
		{"apiVersion":"devices.kubeedge.io/v1beta1","kind":"DeviceModel","metadata":{"name":"plc"},"spec":{"properties":[{"name":"speed","type":"DOUBLE"},{"name":"state","type":"STRING","visitors":{"configData":{"nodeID":"nsu=urn:x;s=State"}}}]}},
		{"apiVersion":"devices.kubeedge.io/v1beta1","kind":"Device","metadata":{"name":"plc-1"},"spec":{"deviceModelRef":{"name":"plc"},
		 "protocol":{"protocolName":"opcua","configData":{"url":"opc.tcp://plc:4840","userName":"admin","password":"x","securityPolicy":"None"}},
		 "properties":[{"name":"speed","visitors":{"configData":{"nodeID":"ns=2;i=5"}}},{"name":"state","collectCycle":500}]}},
		{"apiVersion":"devices.kubeedge.io/v1beta1","kind":"Device","metadata":{"name":"ble"},"spec":{"deviceModelRef":{"name":"plc"},"protocol":{"protocolName":"bluetooth"}}},
		{"apiVersion":"v1","kind":"Secret","metadata":{"name":"s"}}]}`
)

func TestKubeEdge(t *testing.T) {
	in := Into{Namespace: "plant", Name: "kubeedge"}
	objects := [][]byte{[]byte(keThermometer), []byte(keThermometerModel), []byte(keServer)}
	r, err := KubeEdge(objects, in)
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "kubeedge.golden.json", r)
	again, err := KubeEdge(objects, in)
	if err != nil || cmp.Diff(r, again) != "" {
		t.Errorf("not the same twice: %v", err)
	}
	for text, want := range map[string]string{
		`{"kind":"Pod"}`: "there is no Device and no DeviceModel of devices.kubeedge.io/v1beta1",
		`{"apiVersion":"devices.kubeedge.io/v1alpha2","kind":"Device","metadata":{"name":"x"}}`: "document 1: Device x is of devices.kubeedge.io/v1alpha2; only devices.kubeedge.io/v1beta1",
		`{"apiVersion":"devices.kubeedge.io/v1beta1","kind":"Device"}`:                          "a Device without metadata.name",
		`[`: "document 1: it can't be read",
		`{"apiVersion":"devices.kubeedge.io/v1beta1","kind":"DeviceModel","metadata":{"name":"x"},"spec":{"properties":{}}}`: "DeviceModel x: ",
	} {
		if _, err := KubeEdge([][]byte{[]byte(text)}, in); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", text, err, want)
		}
	}
}

func FuzzKubeEdge(f *testing.F) {
	f.Add([]byte(keThermometer), []byte(keThermometerModel))
	f.Add([]byte(keServer), []byte("{}"))
	f.Fuzz(func(t *testing.T, a, b []byte) {
		in := Into{Namespace: "plant", Name: "kubeedge"}
		r, err := KubeEdge([][]byte{a, b}, in)
		again, err2 := KubeEdge([][]byte{a, b}, in)
		if (err == nil) != (err2 == nil) || !cmp.Equal(r, again) {
			t.Fatalf("not the same twice: %v, %v", err, err2)
		}
	})
}
