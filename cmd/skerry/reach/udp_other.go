//go:build !linux

package reach

import "net"

func dontFragment(net.Conn) {}

func tooLarge(error) bool { return false }
