package kubeletfront

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/cri-streaming/pkg/streaming/remotecommand"
	"k8s.io/streaming/pkg/httpstream/wsstream"
	utilexec "k8s.io/utils/exec"
)

// serveV5 serves a command over v5.channel.k8s.io, the one WebSocket protocol
// that can end the input alone. kube-apiserver speaks it with nodes that declare
// ExtendWebSocketsToKubelet; the library has only the protocols before it.
func serveV5(w http.ResponseWriter, r *http.Request, x *execution) {
	channel := func(open bool, t wsstream.ChannelType) wsstream.ChannelType {
		if open {
			return t
		}
		return wsstream.IgnoreChannel
	}
	channels := make([]wsstream.ChannelType, remotecommand.StreamResize+1)
	channels[remotecommand.StreamStdIn] = channel(x.opts.Stdin, wsstream.ReadChannel)
	channels[remotecommand.StreamStdOut] = channel(x.opts.Stdout, wsstream.WriteChannel)
	channels[remotecommand.StreamStdErr] = channel(x.opts.Stderr, wsstream.WriteChannel)
	channels[remotecommand.StreamErr] = wsstream.WriteChannel
	channels[remotecommand.StreamResize] = wsstream.ReadChannel
	conn := wsstream.NewConn(map[string]wsstream.ChannelProtocolConfig{
		remotecommand.StreamProtocolV5Name: {Binary: true, Channels: channels},
	})
	conn.SetIdleTimeout(idleTimeout)
	_, streams, err := conn.Open(w, r)
	if err != nil {
		return // the caller has been answered
	}
	defer func() { _ = conn.Close() }()

	sizes := make(chan remotecommand.TerminalSize)
	x.pumps.Go(func() { decodeSizes(r.Context(), streams[remotecommand.StreamResize], sizes) })
	// An empty message tells the caller that the streams are open.
	_, err = streams[remotecommand.StreamErr].Write(nil)
	if err != nil {
		return
	}
	err = x.ExecInContainer(r.Context(), "", "", "", nil, streams[remotecommand.StreamStdIn],
		streams[remotecommand.StreamStdOut], streams[remotecommand.StreamStdErr], x.opts.TTY, sizes, 0)
	status, err := json.Marshal(commandStatus(x.what(), err))
	if err == nil {
		_, _ = streams[remotecommand.StreamErr].Write(status)
	}
}

func decodeSizes(ctx context.Context, r io.Reader, sizes chan<- remotecommand.TerminalSize) {
	defer close(sizes)
	for d := json.NewDecoder(r); ; {
		var size remotecommand.TerminalSize
		if d.Decode(&size) != nil {
			return
		}
		select {
		case sizes <- size:
		case <-ctx.Done():
			return
		}
	}
}

// what names what is done, in the library's words.
func (x *execution) what() string {
	if x.a.req.kind == kindAttach {
		return "attaching to"
	}
	return "executing command in"
}

// commandStatus says how a command ended as remotecommand clients expect it.
func commandStatus(what string, err error) metav1.Status {
	if err == nil {
		return metav1.Status{Status: metav1.StatusSuccess}
	}
	if exit, ok := errors.AsType[utilexec.CodeExitError](err); ok {
		return metav1.Status{
			Status: metav1.StatusFailure,
			Reason: remotecommand.NonZeroExitCodeReason,
			Details: &metav1.StatusDetails{Causes: []metav1.StatusCause{{
				Type: remotecommand.ExitCodeCauseType, Message: strconv.Itoa(exit.Code),
			}}},
			Message: fmt.Sprintf("command terminated with non-zero exit code: %v", err),
		}
	}
	return metav1.Status{
		Status: metav1.StatusFailure, Reason: metav1.StatusReasonInternalError, Code: http.StatusInternalServerError,
		Message: fmt.Sprintf("error %s container: %v", what, err),
	}
}
