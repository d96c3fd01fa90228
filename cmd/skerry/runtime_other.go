//go:build !linux

package main

import (
	"context"
	"errors"
)

// errNotLinux: administrators have other machines, edges are Linux.
var errNotLinux = errors.New("an edge is a Linux machine")

func askRuntime(context.Context, string) (string, runtimeState, error) {
	return "", runtimeState{}, errNotLinux
}

func runtimePods(context.Context, string) ([]runtimePod, error) { return nil, errNotLinux }
