package onboard

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/skerry-io/skerry/devices"
	"github.com/skerry-io/skerry/devices/modbus/value"
	"github.com/skerry-io/skerry/devices/v1alpha1"
)

// protocol reads how a device is reached. An error of errProtocol is why it can't be
// imported.
func (im *importing) protocol(what string, d *keDevice, model *keModel) (v1alpha1.Protocol, error) {
	name := strings.ToLower(d.Protocol.ProtocolName)
	if name == "" {
		name = strings.ToLower(model.Protocol)
	}
	data := keData{}
	for _, from := range []keData{model.ConfigData, d.Protocol.ConfigData} {
		maps.Copy(data, from)
	}
	switch {
	case strings.Contains(name, "modbus"):
		return im.modbus(what, data)
	case strings.Contains(name, "opcua"), strings.Contains(name, "opc-ua"):
		return im.opcua(what, data)
	}
	return v1alpha1.Protocol{}, fmt.Errorf("%w %q is neither modbus nor opcua", errProtocol, d.Protocol.ProtocolName)
}

func (im *importing) modbus(what string, data keData) (v1alpha1.Protocol, error) {
	m := &v1alpha1.Modbus{UnitID: 1}
	if unit, ok := data.number("slaveID", "slaveId", "deviceSlaveID", "unitID"); ok {
		m.UnitID = int32(min(max(unit, 0), 255))
	} else {
		im.r.leave(what, "it names no slaveID; unitId is 1")
	}
	if line := data.text("serialPort"); line != "" {
		m.RTU = &v1alpha1.ModbusRTU{Device: line, Parity: v1alpha1.ParityEven}
		if baud, ok := data.number("baudRate"); ok {
			m.RTU.BaudRate = int32(min(max(baud, 0), 4e6))
		}
		if stop, ok := data.number("stopBits"); ok {
			m.RTU.StopBits = int32(min(max(stop, 0), 2))
		}
		switch strings.ToLower(data.text("parity")) {
		case "", "even", "e":
		case "none", "n":
			m.RTU.Parity = v1alpha1.ParityNone
		case "odd", "o":
			m.RTU.Parity = v1alpha1.ParityOdd
		default:
			im.r.leave(what, "parity %q is not known; it is Even", data.text("parity"))
		}
		if bits, ok := data.number("dataBits"); ok && bits != 8 {
			im.r.leave(what, "%v data bits: RTU has 8", bits)
		}
		return v1alpha1.Protocol{Modbus: m}, nil
	}
	host, port := data.text("ip", "host"), data.text("port", "tcpPort")
	if host == "" {
		return v1alpha1.Protocol{}, fmt.Errorf("%w: it names neither ip nor serialPort", errProtocol)
	}
	if port == "" {
		port = "502"
	}
	m.TCP = &v1alpha1.ModbusTCP{Address: net.JoinHostPort(host, port)}
	return v1alpha1.Protocol{Modbus: m}, nil
}

func (im *importing) opcua(what string, data keData) (v1alpha1.Protocol, error) {
	url := data.text("url")
	if !strings.HasPrefix(url, "opc.tcp://") {
		return v1alpha1.Protocol{}, fmt.Errorf("%w: its url %q is none of opc.tcp://", errProtocol, cut(url, 64))
	}
	o := &v1alpha1.OPCUA{URL: url}
	if user := data.text("userName", "username"); user != "" {
		secret := objectName(what, "user")
		o.User = &v1alpha1.OPCUAUser{Type: v1alpha1.UserName, SecretName: secret}
		im.r.leave(what, "its password is not taken over: kubectl create secret generic %s --type=kubernetes.io/basic-auth --from-literal=username=%s --from-literal=password=...", secret, user)
	}
	for _, key := range []string{"certificate", "privateKey"} {
		if data.text(key) != "" {
			im.r.leave(what, "%s is a file of the mapper; an edge has a certificate of its own, which the server must trust", key)
		}
	}
	if policy := data.text("securityPolicy"); strings.EqualFold(policy, "none") {
		im.r.leave(what, "securityPolicy None is not taken over: the best that the server offers is used; for none, set securityPolicy and securityMode to None")
	}
	return v1alpha1.Protocol{OPCUA: o}, nil
}

func (im *importing) property(what string, dev *v1alpha1.Device, model *v1alpha1.DeviceModel, from *keModel, p *keDeviceProperty) {
	what += ", property " + p.Name
	name := propertyName([]string{p.Name})
	i := slices.IndexFunc(model.Spec.Properties, func(m v1alpha1.Property) bool { return m.Name == name })
	if i < 0 {
		im.r.leave(what, "its DeviceModel has no such property, or none that could be imported")
		return
	}
	if slices.ContainsFunc(dev.Spec.Properties, func(d v1alpha1.DeviceProperty) bool { return d.Name == name }) {
		im.r.leave(what, "the name is there twice, the first counts")
		return
	}
	visitor := p.Visitors
	if j := slices.IndexFunc(from.Properties, func(m keProperty) bool { return m.Name == p.Name }); visitor == nil && j >= 0 {
		visitor = from.Properties[j].Visitors
	}
	if visitor == nil {
		im.r.leave(what, "it has no visitors, so nobody knows where it is")
		return
	}
	out := v1alpha1.DeviceProperty{Name: name}
	every := interval(p.CollectCycle)
	var err error
	if dev.Spec.Protocol.Modbus != nil {
		out.Modbus, err = keRegister(visitor.ConfigData, &model.Spec.Properties[i])
		if err == nil {
			out.Modbus.PollInterval = every
			_, err = value.New(*out.Modbus, model.Spec.Properties[i].ValueType, &model.Spec)
		}
	} else {
		out.OPCUA, err = keNode(visitor.ConfigData)
		if err == nil {
			out.OPCUA.SamplingInterval = every
		}
	}
	if err != nil {
		im.r.leave(what, "%v", err)
		return
	}
	if p.Desired != nil && p.Desired.Value != "" {
		im.desired(what, &out, p.Desired.Value, model, i)
	}
	if len(p.PushMethod) > 0 && string(p.PushMethod) != "null" {
		im.r.leave(what, "pushMethod is left out: values go to the Device's status and to the cloud by themselves")
	}
	if len(p.AnomalyDetection) > 0 && string(p.AnomalyDetection) != "null" {
		im.r.leave(what, "anomalyDetection is left out")
	}
	if p.ReportCycle != 0 && p.ReportCycle != p.CollectCycle {
		im.r.leave(what, "reportCycle is left out: a value is reported when it has changed")
	}
	dev.Spec.Properties = append(dev.Spec.Properties, out)
}

// interval reads a cycle, which is in milliseconds in the mapper framework and was in
// nanoseconds before: no one polls every 5,000,000 s.
func interval(cycle int64) *v1alpha1.Duration {
	switch {
	case cycle <= 0:
		return nil
	case cycle >= 100_000_000:
		return &v1alpha1.Duration{Duration: min(max(time.Duration(cycle), time.Millisecond), 24*time.Hour)}
	}
	return &v1alpha1.Duration{Duration: min(time.Duration(cycle)*time.Millisecond, 24*time.Hour)}
}

// keRegister reads where a value is. Types of registers are not there: their number
// and the model's type say what they can be.
func keRegister(data keData, p *v1alpha1.Property) (*v1alpha1.ModbusProperty, error) {
	tables := map[string]v1alpha1.ModbusTable{
		"coilregister": v1alpha1.TableCoil, "discreteinputregister": v1alpha1.TableDiscrete, "inputregister": v1alpha1.TableInput, "holdingregister": v1alpha1.TableHolding,
	}
	m := &v1alpha1.ModbusProperty{Table: tables[strings.ToLower(data.text("register"))]}
	if m.Table == "" {
		return nil, fmt.Errorf("register %q is none of CoilRegister, DiscreteInputRegister, InputRegister and HoldingRegister", cut(data.text("register"), 64))
	}
	at, ok := data.number("offset", "index")
	if !ok || at < 0 || at > 65535 {
		return nil, fmt.Errorf("offset %q is no address from 0 to 65535", cut(data.text("offset", "index"), 64))
	}
	m.Address = int32(at)
	if m.Table == v1alpha1.TableCoil || m.Table == v1alpha1.TableDiscrete {
		if p.Type != v1alpha1.TypeBool { // they have bits as numbers
			return nil, fmt.Errorf("the model has it as %s, but %s holds bits: make the model's type BOOLEAN", p.Type, data.text("register"))
		}
		return m, nil
	}
	count, ok := data.number("limit")
	if !ok || count < 1 {
		count = 1
	}
	if err := registerType(m, p, int(min(count, 126))); err != nil {
		return nil, err
	}
	if data.truth("isSwap") {
		m.ByteOrder = "little"
	}
	if data.truth("isRegisterSwap") {
		m.WordOrder = "little"
	}
	if scale, ok := data.number("scale"); ok && scale != 1 && scale != 0 {
		m.Scale = &scale
		if !strings.HasPrefix(string(p.Type), "float") && scale != float64(int64(scale)) {
			return nil, fmt.Errorf("scale %s makes no whole numbers, as the model's INT: make the model's type DOUBLE", strconv.FormatFloat(scale, 'g', -1, 64))
		}
	}
	return m, nil
}

// registerType chooses how a value lies in so many registers: unsigned, as KubeEdge's
// mapper takes them.
func registerType(m *v1alpha1.ModbusProperty, p *v1alpha1.Property, count int) error {
	floats := strings.HasPrefix(string(p.Type), "float")
	switch {
	case p.Type == v1alpha1.TypeString || p.Type == v1alpha1.TypeBytes:
		m.Type, m.Length = v1alpha1.ModbusType(p.Type), int32(count)
	case p.Type == v1alpha1.TypeBool:
		bit := int32(0)
		m.Type, m.Bit = v1alpha1.ModbusBool, &bit
	case count == 1:
		m.Type = v1alpha1.ModbusUint16
	case count == 2 && floats:
		m.Type = v1alpha1.ModbusFloat32
	case count == 2:
		m.Type = v1alpha1.ModbusUint32
	case count == 4 && floats:
		m.Type = v1alpha1.ModbusFloat64
	case count == 4:
		m.Type = v1alpha1.ModbusUint64
	default:
		return fmt.Errorf("limit %d: no number has so many registers", count)
	}
	return nil
}

// keNode reads where a value is on a server. Numbers of namespaces mean nothing after
// the server's next start, and only the server knows which one was meant.
func keNode(data keData) (*v1alpha1.OPCUAProperty, error) {
	id := data.text("nodeID", "nodeId")
	number, rest, ok := strings.Cut(id, ";")
	switch {
	case id == "":
		return nil, errors.New("it has no nodeID")
	case strings.HasPrefix(id, "ns=0;"):
		return &v1alpha1.OPCUAProperty{NodeID: rest}, nil
	case ok && strings.HasPrefix(number, "ns="):
		return nil, fmt.Errorf("nodeID %s has a numbered namespace; `skerry device onboard` finds the node by its URI", cut(id, 128))
	}
	return &v1alpha1.OPCUAProperty{NodeID: id}, nil
}

// desired takes a desired value over if it can be one.
func (im *importing) desired(what string, out *v1alpha1.DeviceProperty, text string, model *v1alpha1.DeviceModel, i int) {
	p := model.Spec.Properties[i]
	raw := []byte(text)
	if p.Type == v1alpha1.TypeString || !json.Valid(raw) {
		raw, _ = json.Marshal(text) // a string has no error
	}
	v, err := devices.DecodeJSON(raw, p.ValueType, &model.Spec)
	if err == nil {
		_, err = devices.CoerceProperty(v, p, &model.Spec)
	}
	if err != nil {
		im.r.leave(what, "its desired value %q is left out: %v", cut(text, 64), err)
		return
	}
	out.Desired = &v1alpha1.JSON{Raw: raw}
}
