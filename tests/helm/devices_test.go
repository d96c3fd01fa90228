package helm

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	apiextensionsinstall "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/install"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apiextensionsvalidation "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/validation"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/cel"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/defaulting"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/pruning"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/validation"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"
	celconfig "k8s.io/apiserver/pkg/apis/cel"
	"sigs.k8s.io/yaml"

	"github.com/skerry-io/skerry/manifests"
)

// definitions are the CustomResourceDefinitions that are installed, by kind.
func definitions(t *testing.T) map[string]*apiextensions.CustomResourceDefinition {
	t.Helper()
	data, err := manifests.Install("")
	if err != nil {
		t.Fatal(err)
	}
	scheme := runtime.NewScheme()
	apiextensionsinstall.Install(scheme)
	all := make(map[string]*apiextensions.CustomResourceDefinition)
	for key, obj := range decode(t, string(data)) {
		if !strings.HasPrefix(key, "CustomResourceDefinition ") {
			continue
		}
		text, err := yaml.Marshal(obj)
		if err != nil {
			t.Fatal(err)
		}
		var crd apiextensionsv1.CustomResourceDefinition
		if err := yaml.UnmarshalStrict(text, &crd); err != nil {
			t.Fatal(err)
		}
		scheme.Default(&crd)
		var internal apiextensions.CustomResourceDefinition
		if err := scheme.Convert(&crd, &internal, nil); err != nil {
			t.Fatal(err)
		}
		internal.Status.StoredVersions = []string{"v1alpha1"}
		all[crd.Spec.Names.Kind] = &internal
	}
	return all
}

// TestDefinitionsAreTaken holds them against what the API server asks of definitions:
// structural schemas, rules that compile, and rules that are cheap enough.
func TestDefinitionsAreTaken(t *testing.T) {
	all := definitions(t)
	if all["Device"] == nil || all["DeviceModel"] == nil {
		t.Fatalf("definitions: %v", all)
	}
	for kind, crd := range all {
		for _, err := range apiextensionsvalidation.ValidateCustomResourceDefinition(t.Context(), crd) {
			t.Errorf("%s: %v", kind, err)
		}
	}
}

// checker does what the API server does with an object of a definition.
type checker struct {
	structural *schema.Structural
	openapi    validation.SchemaValidator
	rules      *cel.Validator
}

func newChecker(t *testing.T, crd *apiextensions.CustomResourceDefinition) *checker {
	t.Helper()
	props := crd.Spec.Validation
	if props == nil {
		props = crd.Spec.Versions[0].Schema
	}
	structural, err := schema.NewStructural(props.OpenAPIV3Schema)
	if err != nil {
		t.Fatal(err)
	}
	openapi, _, err := validation.NewSchemaValidator(props.OpenAPIV3Schema)
	if err != nil {
		t.Fatal(err)
	}
	return &checker{structural, openapi, cel.NewValidator(structural, true, celconfig.PerCallLimit)}
}

// check gives the errors of an apply, one a line.
func (c *checker) check(t *testing.T, text string) string {
	t.Helper()
	data, err := yaml.YAMLToJSON([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	var obj map[string]any
	decoder := json.NewDecoder(strings.NewReader(string(data)))
	if err := decoder.Decode(&obj); err != nil {
		t.Fatal(err)
	}
	obj = integers(obj).(map[string]any)
	var lines []string
	for _, f := range pruning.PruneWithOptions(obj, c.structural, true, schema.UnknownFieldPathOptions{TrackUnknownFieldPaths: true}) {
		lines = append(lines, "unknown field "+f)
	}
	defaulting.Default(obj, c.structural)
	for _, err := range validation.ValidateCustomResource(nil, obj, c.openapi) {
		lines = append(lines, err.Error())
	}
	if !strings.Contains(strings.Join(lines, ""), "must be of type") { // else the API server runs no rules either
		errs, _ := c.rules.Validate(t.Context(), field.NewPath(""), c.structural, obj, nil, celconfig.RuntimeCELCostBudget)
		for _, err := range errs {
			lines = append(lines, err.Error())
		}
	}
	return strings.Join(lines, "\n")
}

// integers makes whole numbers int64, as the API server's decoder does.
func integers(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for k := range v {
			v[k] = integers(v[k])
		}
	case []any:
		for i := range v {
			v[i] = integers(v[i])
		}
	case float64:
		if v == float64(int64(v)) {
			return int64(v)
		}
	}
	return v
}

func device(protocol, properties string) string {
	return fmt.Sprintf(`{apiVersion: devices.skerry.io/v1alpha1, kind: Device, metadata: {name: d, namespace: n},
spec: {modelRef: {name: m}, nodeName: edge, protocol: %s, properties: %s}}`, protocol, properties)
}

func TestDevices(t *testing.T) {
	const (
		opcua = `{opcua: {url: "opc.tcp://plc:4840/a"}}`
		tcp   = `{modbus: {tcp: {address: "plc:502"}}}`
		node  = `nodeId: "nsu=http://vendor/;s=Line 1.Speed"`
	)
	c := newChecker(t, definitions(t)["Device"])
	for name, tc := range map[string]struct{ text, want string }{
		"opcua":  {device(opcua, `[{name: a, opcua: {`+node+`, samplingInterval: 100ms, queueSize: 10, deadband: {percent: 1.5}}, desired: {a: [1]}}]`), ""},
		"modbus": {device(tcp, `[{name: a, modbus: {table: holding, address: 0, type: float32, scale: 0.1, wordOrder: little}, verify: true}]`), ""},
		"rtu":    {device(`{modbus: {rtu: {device: /dev/ttyUSB0, parity: None, stopBits: 2}, unitId: 7}}`, `[{name: a, modbus: {table: coil, address: 9}}]`), ""},
		"ipv6":   {device(`{modbus: {rtuOverTCP: {address: "[fd00::1]:502"}, timeout: 1.5s}}`, `[]`), ""},
		"sim":    {device(`{sim: {}}`, `[{name: a}, {name: b, sim: {waveform: Sine, period: 1m30s}}]`), ""},
		"report": {device(`{sim: {}}`, `[{name: a, report: {deadband: {absolute: 0.5}, heartbeat: 1h, staleness: 5m}}]`), ""},

		"no protocol":      {device(`{}`, `[]`), "exactly one of opcua, modbus and sim"},
		"two protocols":    {device(`{sim: {}, modbus: {tcp: {address: "a:1"}}}`, `[]`), "exactly one of opcua, modbus and sim"},
		"another block":    {device(tcp, `[{name: a, opcua: {`+node+`}}]`), "each property needs the block of spec.protocol"},
		"no block":         {device(opcua, `[{name: a}]`), "each property needs the block of spec.protocol"},
		"twice":            {device(`{sim: {}}`, `[{name: a}, {name: a}]`), ""}, // a list of maps: refused by the API server before
		"url":              {device(`{opcua: {url: "http://plc"}}`, `[]`), "opc.tcp://HOST:PORT"},
		"numbered":         {device(opcua, `[{name: a, opcua: {nodeId: "ns=2;s=x"}}]`), "numbered namespaces (ns=2) change"},
		"half secure":      {device(`{opcua: {url: "opc.tcp://a", securityMode: None}}`, `[]`), "needs both"},
		"insecure":         {device(`{opcua: {url: "opc.tcp://a", securityMode: None, securityPolicy: None}}`, `[]`), ""},
		"user":             {device(`{opcua: {url: "opc.tcp://a", user: {type: UserName}}}`, `[]`), "need secretName"},
		"fingerprint":      {device(`{opcua: {url: "opc.tcp://a", trust: {fingerprints: [abc]}}}`, `[]`), "fingerprints[0]"},
		"duration":         {device(`{opcua: {url: "opc.tcp://a", publishingInterval: 1 day}}`, `[]`), "publishingInterval"},
		"too short":        {device(`{opcua: {url: "opc.tcp://a", publishingInterval: 1ms}}`, `[]`), "publishingInterval must be from 10ms to 1h"},
		"no line":          {device(`{modbus: {}}`, `[]`), "exactly one of tcp, rtu and rtuOverTCP"},
		"address":          {device(`{modbus: {tcp: {address: plc}}}`, `[]`), "HOST:PORT"},
		"unit":             {device(`{modbus: {tcp: {address: "a:1"}, unitId: 300}}`, `[]`), "unitId"},
		"file":             {device(`{modbus: {rtu: {device: /dev/../etc/passwd}}}`, `[]`), "below /dev"},
		"baud":             {device(`{modbus: {rtu: {device: /dev/ttyS0, baudRate: 9601}}}`, `[]`), "baudRate"},
		"register":         {device(tcp, `[{name: a, modbus: {table: holding, address: 65536, type: int16}}]`), "address"},
		"type of a coil":   {device(tcp, `[{name: a, modbus: {table: coil, address: 1, type: int16}}]`), "tables coil and discrete hold bools"},
		"no type":          {device(tcp, `[{name: a, modbus: {table: input, address: 1}}]`), "need type"},
		"bool and no bit":  {device(tcp, `[{name: a, modbus: {table: input, address: 1, type: bool}}]`), "needs bit"},
		"string":           {device(tcp, `[{name: a, modbus: {table: input, address: 1, type: string}}]`), "need length"},
		"zero scale":       {device(tcp, `[{name: a, modbus: {table: input, address: 1, type: int16, scale: 0}}]`), "scale must not be 0"},
		"scaled text":      {device(tcp, `[{name: a, modbus: {table: input, address: 1, type: string, length: 1, scale: 2}}]`), "need a number type"},
		"two deadbands":    {device(`{sim: {}}`, `[{name: a, report: {deadband: {absolute: 1, percent: 1}}}]`), "exactly one of absolute and percent"},
		"idle deadband":    {device(`{sim: {}}`, `[{name: a, report: {mode: Always, deadband: {absolute: 1}}}]`), "a deadband needs mode OnChange"},
		"heartbeat":        {device(`{sim: {}}`, `[{name: a, report: {heartbeat: 10ms}}]`), "heartbeat must be at least 1s"},
		"misspelt":         {device(`{sim: {intervall: 1s}}`, `[]`), "unknown field spec.protocol.sim.intervall"},
		"method of modbus": {strings.Replace(device(tcp, `[]`), "properties:", `methods: [{name: m, opcua: {objectId: i=1, methodId: i=2}}], properties:`, 1), "only protocol opcua"},
	} {
		t.Run(name, func(t *testing.T) {
			got := c.check(t, tc.text)
			if tc.want == "" && got != "" || !strings.Contains(got, tc.want) {
				t.Errorf("got %q\nwant %q", got, tc.want)
			}
		})
	}
}

func TestDeviceModels(t *testing.T) {
	model := func(spec string) string {
		return `{apiVersion: devices.skerry.io/v1alpha1, kind: DeviceModel, metadata: {name: m, namespace: n}, spec: ` + spec + `}`
	}
	c := newChecker(t, definitions(t)["DeviceModel"])
	for name, tc := range map[string]struct{ text, want string }{
		"all": {model(`{description: a press, types: [{name: E, kind: enum, values: [{number: 1, name: "On"}]},
{name: S, kind: struct, fields: [{name: f, type: enum, typeName: E}, {name: g, type: float32, dimensions: [3, 0]}]}],
properties: [{name: a, type: int16, min: -5, max: 5.5, unit: "°C", access: ReadWrite}, {name: b, type: struct, typeName: S}],
methods: [{name: Start, inputs: [{name: speed, type: float64}], outputs: [{name: ok, type: bool}]}]}`), ""},
		"type":          {model(`{properties: [{name: a, type: int}]}`), "type"},
		"name":          {model(`{properties: [{name: "a b", type: int8}]}`), "name"},
		"range of text": {model(`{properties: [{name: a, type: string, min: 1}]}`), "min and max need a number type"},
		"empty range":   {model(`{properties: [{name: a, type: int8, min: 2, max: 1}]}`), "min must not be above max"},
		"enum unnamed":  {model(`{properties: [{name: a, type: enum}]}`), "need typeName"},
		"named number":  {model(`{properties: [{name: a, type: int8, typeName: x}]}`), "need typeName"},
		"no such type":  {model(`{properties: [{name: a, type: enum, typeName: x}]}`), "must name an entry of spec.types"},
		"of other kind": {model(`{types: [{name: x, kind: enum, values: [{number: 1, name: a}]}], properties: [{name: a, type: struct, typeName: x}]}`), "must name an entry of spec.types"},
		"empty enum":    {model(`{types: [{name: x, kind: enum}]}`), "an enum has values"},
		"access":        {model(`{properties: [{name: a, type: int8, access: Full}]}`), "access"},
	} {
		t.Run(name, func(t *testing.T) {
			got := c.check(t, tc.text)
			if tc.want == "" && got != "" || !strings.Contains(got, tc.want) {
				t.Errorf("got %q\nwant %q", got, tc.want)
			}
		})
	}
}
