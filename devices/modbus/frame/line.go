package frame

import "time"

// Line is the speed of a serial line.
type Line struct {
	Baud     int  // bits a second, > 0
	Parity   bool // a parity bit is sent
	StopBits int  // 1 or 2
}

// fixed is the speed above which the gaps no longer shrink (MODBUS over Serial
// Line, 2.5.1.1): timers would have to be too fine.
const fixed = 19200

// Transmit returns how long n characters take on the wire.
func (l Line) Transmit(n int) time.Duration {
	bits := 1 + 8 + max(1, l.StopBits)
	if l.Parity {
		bits++
	}
	return time.Duration(n*bits) * time.Second / time.Duration(l.Baud)
}

// Gap returns t3.5, the silence that must come before a frame.
func (l Line) Gap() time.Duration {
	if l.Baud > fixed {
		return 1750 * time.Microsecond
	}
	return l.Transmit(7) / 2
}

// Pause returns t1.5, the silence that ends a frame early: what comes later does
// not belong to it.
func (l Line) Pause() time.Duration {
	if l.Baud > fixed {
		return 750 * time.Microsecond
	}
	return l.Transmit(3) / 2
}
