package main

import (
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/skerry-io/skerry/devices/v1alpha1"
)

// modbusDevice is how to reach a Modbus device that is no Device yet.
type modbusDevice struct {
	address, parity string
	unit            int32
	baud, stopBits  int32
	rtuOverTCP      bool
}

func (m *modbusDevice) addFlags(f *pflag.FlagSet) {
	f.StringVar(&m.address, "modbus", "", "Modbus device: HOST:PORT, or the file of a serial line of the edge, /dev/...")
	f.Int32Var(&m.unit, "unit", 1, "Modbus: the unit id, also called slave address")
	f.BoolVar(&m.rtuOverTCP, "rtu-over-tcp", false, "Modbus: the address is a serial line behind a server that passes bytes on")
	f.Int32Var(&m.baud, "baud", 9600, "Modbus: bits per second of a serial line")
	f.StringVar(&m.parity, "parity", string(v1alpha1.ParityEven), "Modbus: Even, Odd or None, of a serial line")
	f.Int32Var(&m.stopBits, "stop-bits", 0, "Modbus: 1 or 2, of a serial line; 0 is as the standard asks for")
}

func (m *modbusDevice) spec(cmd *cobra.Command) (*v1alpha1.Modbus, error) {
	if m.unit < 0 || m.unit > 255 {
		return nil, badUsage(cmd, "--unit %d is not within 0 and 255", m.unit)
	}
	out := &v1alpha1.Modbus{UnitID: m.unit}
	switch {
	case strings.HasPrefix(m.address, "/"):
		out.RTU = &v1alpha1.ModbusRTU{Device: m.address, BaudRate: m.baud, Parity: v1alpha1.Parity(m.parity), StopBits: m.stopBits}
	case !strings.Contains(m.address, ":"):
		return nil, badUsage(cmd, "--modbus %q is neither HOST:PORT (the port of Modbus is 502) nor a file below /dev", m.address)
	case m.rtuOverTCP:
		out.RTUOverTCP = &v1alpha1.ModbusTCP{Address: m.address}
	default:
		out.TCP = &v1alpha1.ModbusTCP{Address: m.address}
	}
	return out, nil
}
