package onboard

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/skerry-io/skerry/devices"
	"github.com/skerry-io/skerry/devices/survey"
	"github.com/skerry-io/skerry/devices/v1alpha1"
)

var rewrite = flag.Bool("rewrite", false, "write golden files anew")

// golden compares a result with a file of testdata.
func golden(t *testing.T, name string, r any) {
	t.Helper()
	var got bytes.Buffer
	enc := json.NewEncoder(&got)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", " ")
	if err := enc.Encode(r); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join("testdata", name)
	if *rewrite {
		if err := os.WriteFile(file, got.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), got.String()); d != "" {
		t.Errorf("%s (-want +got; go test -rewrite):\n%s", name, d)
	}
}

func found(t *testing.T, name string) Found {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	f, err := ReadFound(bytes.NewReader(b), nil)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func into() Into {
	return Into{Namespace: "plant", Node: "edge-1", Name: "hall", Protocol: v1alpha1.Protocol{OPCUA: &v1alpha1.OPCUA{URL: "opc.tcp://plc:4840"}}}
}

// TestOPCUA is of what a browse of node-opcua told.
func TestOPCUA(t *testing.T) {
	f := found(t, "node-opcua.jsonl")
	r, err := OPCUA(f, Shape{}, into())
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "node-opcua.golden.json", r)

	slices.Reverse(f.Nodes) // a server may tell in any order
	again, err := OPCUA(f, Shape{}, into())
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(r, again); d != "" {
		t.Errorf("another order of nodes (-want +got):\n%s", d)
	}

	flat, err := OPCUA(f, Shape{Flat: true, Match: "Hall 1/*/Fault"}, into())
	if err != nil || len(flat.Devices) != 1 || len(flat.Models) != 1 || len(flat.Devices[0].Spec.Properties) != 2 ||
		flat.Devices[0].Spec.Properties[1].Name != "Hall_1.Motor_2.Drive.Fault" {
		t.Errorf("flat: %+v, %v", flat, err)
	}
}

// TestAgain: a server that has changed keeps the names that the cluster has, and the
// difference is told.
func TestAgain(t *testing.T) {
	f := found(t, "node-opcua.jsonl")
	first, err := OPCUA(f, Shape{}, into())
	if err != nil {
		t.Fatal(err)
	}
	have := first.Devices[0].DeepCopy() // hall: what has no type
	i := slices.IndexFunc(have.Spec.Properties, func(p v1alpha1.DeviceProperty) bool { return p.Name == "Types.Analog" })
	have.Spec.Properties[i].Name = "oven" // by hand
	have.Spec.Properties[i].Desired = &v1alpha1.JSON{Raw: []byte("7")}
	have.Spec.Protocol.OPCUA.SecurityMode = v1alpha1.ModeBest // the API server's default
	have.Spec.Protocol.OPCUA.Trust = &v1alpha1.OPCUATrust{Fingerprints: []string{"ab", "by hand"}}
	model := first.Models[0].DeepCopy()
	if model.Name != have.Spec.ModelRef.Name {
		t.Fatalf("models %v", first.Models)
	}
	j := slices.IndexFunc(model.Spec.Properties, func(p v1alpha1.Property) bool { return p.Name == "Types.Analog" })
	model.Spec.Properties[j].Name = "oven"
	known := append([]v1alpha1.Device{*have}, first.Devices[1:]...)
	known[1].Spec.NodeName = "edge-2"

	in := into()
	in.Known = known
	in.Protocol.OPCUA.Trust = &v1alpha1.OPCUATrust{Fingerprints: []string{"ab"}}
	for n := range f.Nodes {
		switch node := &f.Nodes[n]; node.Name {
		case "Analog":
			node.Unit = "K"
		case "Decoy": // a new one takes a name that is used
			node.Name, node.Parent = "Boolean", "nsu=urn:skerry:test:a;s=Types"
		case "SByte":
			node.Unmapped, node.Value = "no type", nil
		}
	}
	second, err := OPCUA(f, Shape{}, in)
	if err != nil {
		t.Fatal(err)
	}
	gone := first.Models[1].DeepCopy()
	gone.Name = "hall-presstype"
	changes, err := Compare(second, append([]v1alpha1.DeviceModel{*model, *gone}, first.Models[1:]...), known)
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "again.golden.json", changes)
	if len(second.Left) != 1 || second.Left[0].String() != "hall: Types/SByte: no type" {
		t.Errorf("left out %v", second.Left)
	}
}

func TestTooMany(t *testing.T) {
	var f Found
	for i := range 4097 {
		id := fmt.Sprintf("nsu=urn:x;i=%d", i)
		f.Nodes = append(f.Nodes, survey.Node{ID: id, Parent: "i=85", Class: survey.Variable, Name: id, Access: v1alpha1.ReadOnly, Value: &v1alpha1.ValueType{Type: v1alpha1.TypeBool}})
	}
	if _, err := OPCUA(f, Shape{}, into()); err == nil || !strings.Contains(err.Error(), "4097 variables would be of one Device, which has room for 4096: browse a part") {
		t.Error(err)
	}
	f.Nodes = f.Nodes[1:]
	if r, err := OPCUA(f, Shape{}, into()); err != nil || len(r.Devices[0].Spec.Properties) != 4096 {
		t.Error(err)
	}
}

// TestHostile: circles, the same node many times, names of anything.
func TestHostile(t *testing.T) {
	long := strings.Repeat("ä ", 400)
	number := &v1alpha1.ValueType{Type: v1alpha1.TypeInt16}
	f := Found{Nodes: []survey.Node{
		{ID: "a", Parent: "b", Class: survey.Object},
		{ID: "b", Parent: "a", Class: survey.Object},
		{ID: "c", Parent: "c", Class: survey.Object, Name: "self"},
		{ID: "c", Parent: "a", Class: survey.Object},
		{ID: "d", Parent: "c", Class: survey.Variable, Name: long, Value: number, Access: v1alpha1.ReadOnly, Unit: long, Description: long},
		{ID: "e", Parent: "c", Class: survey.Variable, Name: long, Value: number, Access: v1alpha1.ReadOnly},
		{ID: "f", Parent: "c", Class: survey.Variable, Name: "9", Value: &v1alpha1.ValueType{Type: v1alpha1.TypeEnum, TypeName: "none"}, Access: v1alpha1.ReadOnly},
		{ID: "g", Parent: "c", Class: survey.Variable, Name: "", Value: number, Access: v1alpha1.ReadOnly},
		{ID: "h", Parent: "c", Class: survey.Variable, Name: "x", Value: number},
	}}
	r, err := OPCUA(f, Shape{}, into())
	if err != nil || len(r.Devices) != 1 {
		t.Fatalf("%+v, %v", r, err)
	}
	seen := map[string]bool{}
	for _, p := range r.Models[0].Spec.Properties {
		if seen[p.Name] || len(p.Name) > maxName || len(p.Unit) > maxUnit || len(p.Description) > maxDescription {
			t.Errorf("property %+v", p)
		}
		seen[p.Name] = true
	}
	if len(r.Left) != 2 || len(r.Models[0].Spec.Properties) != 3 {
		t.Errorf("left %v", r.Left)
	}
}

func TestReadFound(t *testing.T) {
	for name, tt := range map[string]struct{ text, want string }{
		"cut off":  {`{"node":{"id":"i=1"}}`, "cut off: unexpected EOF"},
		"no JSON":  {"<html>", "invalid character"},
		"too long": {strings.Repeat("x", survey.MaxLine+2), "more than 1048576 bytes"},
		"failed":   {`{"end":{"error":"not trusted","fingerprint":"ab"}}`, "not trusted"},
	} {
		_, err := ReadFound(strings.NewReader(tt.text), nil)
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %s", name, err, tt.want)
		}
		if end, ok := errors.AsType[*EndError](err); ok != (name == "failed") || ok && end.Fingerprint != "ab" {
			t.Errorf("%s: %#v", name, err)
		}
	}
	var told []survey.Progress
	f, err := ReadFound(strings.NewReader(`{"progress":{"doing":"browse","nodes":3}}`+"\n\n"+`{"end":{"nodes":3,"truncated":true}}`), func(p survey.Progress) { told = append(told, p) })
	if err != nil || !f.Truncated || len(told) != 1 || told[0].Nodes != 3 {
		t.Errorf("%+v, %v, %v", f, told, err)
	}
}

func TestRegisters(t *testing.T) {
	in := into()
	in.Protocol = v1alpha1.Protocol{Modbus: &v1alpha1.Modbus{TCP: &v1alpha1.ModbusTCP{Address: "meter:502"}, UnitID: 1}}
	file, err := os.Open("testdata/meter.csv")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	r, err := Registers(file, in)
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "meter.golden.json", r)
}

func TestRegistersFaults(t *testing.T) {
	for table, want := range map[string]string{
		"":                                   "line 1: the table is empty; its first line must name columns",
		"name,place\n":                       `line 1, column 6: there is no column "place"; columns are name,`,
		"address\n1":                         "line 1: no column name",
		"name,type\nx,int16":                 "line 1: no column address and none reference",
		"name,address,name\n":                "line 1, column 14 (name): the column is there twice",
		"name,address\n":                     "the table has no registers",
		"name,address\nx,1,2\n":              "line 2: 3 cells, the first line names 2 columns",
		"name,address\n\n# c\nspeed (rpm),1": `line 4, column 1 (name): "speed (rpm)" is no name`,
		"name,address\nx,400011":             "the column is called reference",
		"name,reference\nx,20001":            "line 2, column 3 (reference): 20001 is in no table",
		"name,reference\nx,40000":            "count from 1",
		"name,address,reference\nx,1,40001":  "not both",
		"name;address;table\nx;1;register":   `line 2, column 5 (table): "register" is none of coil, discrete, input and holding`,
		"name\taddress\ttype\nx\t1\tint24":   `line 2, column 5 (type): "int24" is no type of registers`,
		"name,address,type,table\nx,1,bool,coil\ny,2,int16,coil": "line 3, column 5 (type): table coil holds bits, not int16",
		"name,address,type\nx,1,bool":                            "line 2 (bit): a bool in a register needs bit",
		"name,address,type\nx,1,string":                          "line 2 (length): a string or bytes need length",
		"name,address,length\nx,1,4":                             "line 2, column 5 (length): it is 1 to 125 registers, of a string",
		"name,address,access,table\nx,1,rw,input":                "line 2, column 5 (access): table input can't be written",
		"name,address,scale\nx,1,\"0,5\"":                        `line 2, column 5 (scale): "0,5" is no number; decimals have a point`,
		"name,address,min,max\nx,1,5,3":                          "line 2, column 5 (min): it is above max",
		"name,address,poll\nx,1,5":                               "line 2, column 5 (poll): \"5\" is no time",
		"name,address,values\nx,1,0=a;b":                         `line 2, column 5 (values): "b" is not NUMBER=NAME`,
		"name,address,values\nx,1,0=a;0=b":                       "number 0 has two names",
		"name,address,type\nx,65535,int32":                       "line 2, column 3 (address): 2 elements from 65535 on end past 65535",
		"name,address\nx,1\nx,2":                                 "line 3, column 1 (name): property x is in line 2 already",
		"name,address\nx,a\ny,b":                                 "line 3, column 3 (address)",
		"name,address\n\"x,1":                                    "line 2",
	} {
		r, err := Registers(strings.NewReader(table), into())
		if err == nil || !strings.Contains(err.Error(), want) || len(r.Models) > 0 {
			t.Errorf("%q: %v, want %s", table, err, want)
		}
	}
	var many strings.Builder
	many.WriteString("name,address\n")
	for range 100 {
		many.WriteString("x,a\n")
	}
	_, err := Registers(strings.NewReader(many.String()), into())
	if err == nil || strings.Count(err.Error(), "\n") != maxErrors || !strings.HasSuffix(err.Error(), "and more faults, which are not told") {
		t.Errorf("a hundred faults: %v", err)
	}
	if _, err := Registers(io.LimitReader(endless{}, maxTable+100), into()); err == nil || !strings.Contains(err.Error(), "more than 4194304 bytes") {
		t.Errorf("an endless table: %v", err)
	}
}

// TestLikelyReferences: 40001 is an address, too, but rarely.
func TestLikelyReferences(t *testing.T) {
	for table, want := range map[string]int{"name,address\nx,40001\ny,30010": 1, "name,address\nx,40000\ny,40002": 0, "name,reference\nx,40001": 0} {
		r, err := Registers(strings.NewReader(table), into())
		if err != nil || len(r.Left) != want {
			t.Errorf("%q: %v, %v", table, r.Left, err)
		}
	}
}

type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }

// FuzzRegisters: what a table makes is valid by the driver's rules and the same each
// time, and a fault has a place.
func FuzzRegisters(f *testing.F) {
	seed, err := os.ReadFile("testdata/meter.csv")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(string(seed))
	f.Add("name;address;table;type;access;bit\nx;0x10;coil;;rw;\ny;1;holding;bool;;3\n")
	f.Add("name,reference,type,length,count,values\nx,400001,bcd32,,,1=a;2=b\ny,30001,string,4,,\nz,40001,int16,,9,\n")
	f.Fuzz(func(t *testing.T, table string) {
		r, err := Registers(strings.NewReader(table), into())
		again, err2 := Registers(strings.NewReader(table), into())
		if fmt.Sprint(err) != fmt.Sprint(err2) || !cmp.Equal(r, again) {
			t.Fatalf("not the same twice: %v, %v", err, err2)
		}
		if err != nil {
			return
		}
		model := r.Models[0].Spec
		seen := map[string]bool{}
		for i, p := range model.Properties {
			dp := r.Devices[0].Spec.Properties[i]
			if seen[p.Name] || dp.Name != p.Name || dp.Modbus == nil {
				t.Fatalf("property %+v at %+v", p, dp)
			}
			seen[p.Name] = true
			if p.Type == v1alpha1.TypeEnum {
				if _, err := devices.DecodeJSON([]byte("1"), p.ValueType, &model); err != nil && !errors.As(err, new(*devices.QualityError)) {
					t.Fatalf("enumeration of %+v: %v", p, err)
				}
			}
		}
	})
}
