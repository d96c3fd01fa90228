package modbus

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/skerry-io/skerry/devices/modbus/bus"
	"github.com/skerry-io/skerry/devices/modbus/pdu"
)

// cpu is what this process has used: the peer is another one.
func cpu(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkPolls reads registers of libmodbus over loopback through one bus. polls/core
// is what a core of this side alone could do.
func BenchmarkPolls(b *testing.B) {
	for _, c := range []struct{ registers, callers, pipeline int }{{10, 1, 1}, {10, 8, 1}, {10, 16, 0}, {125, 16, 0}} {
		b.Run(fmt.Sprintf("registers=%d/callers=%d/pipeline=%d", c.registers, c.callers, c.pipeline), func(b *testing.B) {
			port := freePort(b)
			startSlave(b, "tcp", strconv.Itoa(port))
			var d net.Dialer
			line, err := bus.New(bus.Config{Pipeline: c.pipeline, Dial: func(ctx context.Context) (bus.Conn, error) {
				return d.DialContext(ctx, "tcp", "127.0.0.1:"+strconv.Itoa(port))
			}})
			if err != nil {
				b.Fatal(err)
			}
			ctx, cancel := context.WithCancel(b.Context())
			var running sync.WaitGroup
			running.Go(func() { _ = line.Run(ctx) })
			defer running.Wait()
			defer cancel()
			<-line.Tried()
			request, err := pdu.Read(pdu.ReadHoldingRegisters, 0, c.registers)
			if err != nil {
				b.Fatal(err)
			}
			// Each caller's next request is made when the last was answered, as polls are.
			ended := make(chan error, c.callers)
			ask := func() {
				line.Go(bus.Call{Unit: 1, Request: request, Priority: bus.Poll, Done: func(_ []byte, _ time.Duration, err error) { ended <- err }})
			}
			b.ReportAllocs()
			used, begun := cpu(b), time.Now()
			b.ResetTimer()
			for i := range b.N + c.callers {
				if i < b.N {
					ask()
				}
				if i >= c.callers {
					if err := <-ended; err != nil {
						b.Fatal(err)
					}
				} else if i >= b.N {
					break
				}
			}
			b.StopTimer()
			used = cpu(b) - used
			b.ReportMetric(float64(b.N)/time.Since(begun).Seconds(), "polls/s")
			b.ReportMetric(float64(used.Microseconds())/float64(b.N), "cpu-us/poll")
			b.ReportMetric(float64(b.N)/used.Seconds(), "polls/core")
		})
	}
}
