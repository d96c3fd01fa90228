package system

import (
	"context"
	"errors"
	"io"
	"net/http"
	"time"

	"github.com/gorilla/websocket"
)

const (
	websocketALPN = "http/1.1"
	websocketPath = "/v1/connect"
	// What KubeEdge's stream tunnel does: a ping each 5 s, of which nobody misses
	// the answer, and 30 s for a handshake.
	websocketPing = 5 * time.Second
	websocketDial = 30 * time.Second
)

func dialWebsocket(ctx context.Context, d Dial) (Session, error) {
	dialer := websocket.Dialer{
		NetDialContext:  tcpDialer().DialContext,
		TLSClientConfig: withALPN(d.TLS, websocketALPN), HandshakeTimeout: websocketDial,
	}
	ws, answer, err := dialer.DialContext(ctx, "wss://"+d.Address+websocketPath, nil)
	if answer != nil {
		_ = answer.Body.Close()
	}
	if err != nil {
		return nil, err
	}
	m := newMux(ws, nil)
	go m.run()
	go m.ping(websocketPing)
	return m, nil
}

// websocketServer is an HTTP server whose one resource becomes a tunnel.
type websocketServer struct {
	http *http.Server
	done chan error
}

func listenWebsocket(ctx context.Context, l Listen) (io.Closer, error) {
	ln, err := listenTCP(ctx, l.Address)
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.HandleFunc(websocketPath, func(w http.ResponseWriter, r *http.Request) {
		upgrader := websocket.Upgrader{}
		ws, err := upgrader.Upgrade(w, r, nil)
		if err != nil {
			return // the client has got an answer
		}
		newMux(ws, l.Handle).run()
	})
	s := &websocketServer{
		http: &http.Server{Handler: mux, TLSConfig: withALPN(l.TLS, websocketALPN), ReadHeaderTimeout: websocketDial},
		done: make(chan error, 1),
	}
	go func() { s.done <- s.http.ServeTLS(ln, "", "") }()
	return s, nil
}

// Close ends the server.
func (s *websocketServer) Close() error {
	err := s.http.Close()
	if serveErr := <-s.done; !errors.Is(serveErr, http.ErrServerClosed) {
		err = errors.Join(err, serveErr)
	}
	return err
}
