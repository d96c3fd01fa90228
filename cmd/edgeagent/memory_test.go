package main

import (
	"errors"
	"testing"

	"github.com/KimMachineGun/automemlimit/memlimit"
)

func TestMemoryLimit(t *testing.T) {
	const mib = 1 << 20
	fails := func(err error) memlimit.Provider { return func() (uint64, error) { return 0, err } }
	broken := errors.New("mountinfo is not to be read")
	for _, test := range []struct {
		name           string
		group, machine memlimit.Provider
		want           int64 // 0 is an error
	}{
		{"a gateway without a limit", fails(memlimit.ErrNoLimit), memlimit.Limit(128 * mib), 32 * mib},
		{"no control groups", fails(memlimit.ErrNoCgroup), memlimit.Limit(128 * mib), 32 * mib},
		{"the unit's limit above what the gateway has", memlimit.Limit(256 * mib), memlimit.Limit(128 * mib), 32 * mib},
		{"the unit's limit on a server", memlimit.Limit(256 * mib), memlimit.Limit(8192 * mib), 128 * mib},
		{"a tight group", memlimit.Limit(64 * mib), memlimit.Limit(8192 * mib), 32 * mib},
		{"groups that can't be read", fails(broken), memlimit.Limit(8192 * mib), 0},
		{"a machine that does not tell", memlimit.Limit(64 * mib), fails(memlimit.ErrNoLimit), 0},
	} {
		got, err := memoryLimit(test.group, test.machine)
		if got != test.want || (err == nil) != (test.want != 0) {
			t.Errorf("%s: %d bytes, %v; want %d", test.name, got, err, test.want)
		}
	}
}
