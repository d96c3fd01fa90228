package probe

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"

	corev1 "k8s.io/api/core/v1"
)

// The gRPC health protocol is one unary call with two tiny messages. It is
// written by hand over net/http's cleartext HTTP/2, since grpc may enter the
// agent by edgeagent/cri only:
//
//	message HealthCheckRequest  { string service = 1; }
//	message HealthCheckResponse { ServingStatus status = 1; }   // SERVING = 1
const (
	healthPath    = "/grpc.health.v1.Health/Check"
	serving       = 1
	messageHeader = 5 // compressed flag, then the length
)

func (p *Prober) runGRPC(ctx context.Context, g *corev1.GRPCAction, t Target) (Result, string) {
	service := ""
	if g.Service != nil {
		service = *g.Service
	}
	u := "http://" + net.JoinHostPort(t.PodIP, strconv.Itoa(int(g.Port))) + healthPath
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, u, bytes.NewReader(healthRequest(service)))
	if err != nil {
		return Unknown, err.Error()
	}
	req.Header.Set("Content-Type", "application/grpc")
	req.Header.Set("Te", "trailers")
	req.Header.Set("User-Agent", "kube-probe/1.37")
	resp, err := p.h2.Do(req)
	if err != nil {
		return Failure, fmt.Sprintf("timeout or failure: health rpc: %v", err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxBody))
	if err != nil {
		return Failure, fmt.Sprintf("health rpc: %v", err)
	}
	code := resp.Trailer.Get("Grpc-Status")
	if code == "" {
		code = resp.Header.Get("Grpc-Status") // an answer of headers only
	}
	if code != "0" {
		return Failure, fmt.Sprintf("health rpc failed with status %q: %s", code, resp.Trailer.Get("Grpc-Message")+resp.Header.Get("Grpc-Message"))
	}
	st, err := healthStatus(body)
	if err != nil {
		return Failure, fmt.Sprintf("health rpc: %v", err)
	}
	if st != serving {
		return Failure, fmt.Sprintf("service unhealthy (status %d)", st)
	}
	return Success, ""
}

func healthRequest(service string) []byte {
	var msg []byte
	if service != "" {
		msg = append(msg, 1<<3|2) // field 1, length-delimited
		msg = binary.AppendUvarint(msg, uint64(len(service)))
		msg = append(msg, service...)
	}
	out := binary.BigEndian.AppendUint32([]byte{0}, uint32(len(msg)))
	return append(out, msg...)
}

// healthStatus decodes field 1 of a HealthCheckResponse; other fields are skipped.
func healthStatus(body []byte) (uint64, error) {
	if len(body) < messageHeader {
		return 0, errors.New("truncated answer")
	}
	if body[0] != 0 {
		return 0, errors.New("compressed answer")
	}
	n := binary.BigEndian.Uint32(body[1:])
	msg := body[messageHeader:]
	if uint64(len(msg)) < uint64(n) {
		return 0, errors.New("truncated answer")
	}
	msg = msg[:n]
	var status uint64
	for len(msg) > 0 {
		tag, k := binary.Uvarint(msg)
		if k <= 0 {
			return 0, errors.New("malformed answer")
		}
		msg = msg[k:]
		v, k := binary.Uvarint(msg) // a value, or the length of one
		if k <= 0 {
			return 0, errors.New("malformed answer")
		}
		msg = msg[k:]
		switch tag & 7 {
		case 0:
			if tag>>3 == 1 {
				status = v
			}
		case 2:
			if v > uint64(len(msg)) {
				return 0, errors.New("malformed answer")
			}
			msg = msg[v:]
		default:
			return 0, errors.New("malformed answer")
		}
	}
	return status, nil
}
