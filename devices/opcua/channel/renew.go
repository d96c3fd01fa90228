package channel

import (
	"context"
	"crypto/rand"
	"fmt"
	"time"

	"github.com/gopcua/opcua/ua"
	"github.com/gopcua/opcua/uapolicy"
)

const leastLifetime = 10 * time.Second

// renew asks for a token, the first or the next one.
func (c *Channel) renew(ctx context.Context, kind ua.SecurityTokenRequestType) error {
	var nonce []byte
	if c.cfg.Policy != ua.SecurityPolicyURINone {
		nonce = make([]byte, c.asym.NonceLength())
		_, _ = rand.Read(nonce) // never fails
	}
	v, err := c.Request(ctx, &ua.OpenSecureChannelRequest{
		RequestType: kind, SecurityMode: c.cfg.Mode, ClientNonce: nonce,
		RequestedLifetime: uint32(c.cfg.Lifetime.Milliseconds()),
	}, nil)
	if err != nil {
		return err
	}
	resp, ok := v.(*ua.OpenSecureChannelResponse)
	if !ok {
		return fmt.Errorf("%T where a token was due", v)
	}
	t := &token{id: resp.SecurityToken.TokenID, lifetime: time.Duration(resp.SecurityToken.RevisedLifetime) * time.Millisecond}
	if t.lifetime <= 0 || t.lifetime > c.cfg.Lifetime {
		t.lifetime = c.cfg.Lifetime
	}
	t.lifetime = max(t.lifetime, leastLifetime)
	t.expires = time.Now().Add(t.lifetime * 5 / 4) // Part 4, 5.5.2.1
	if c.cfg.Policy != ua.SecurityPolicyURINone && len(resp.ServerNonce) < c.asym.NonceLength() {
		return fmt.Errorf("%w: nonce of %d bytes", ErrSecurity, len(resp.ServerNonce))
	}
	if t.algo, err = uapolicy.Symmetric(c.cfg.Policy, nonce, resp.ServerNonce); err != nil {
		return fmt.Errorf("keys: %w", err)
	}
	c.mu.Lock()
	if kind == ua.SecurityTokenRequestTypeIssue {
		c.id = resp.SecurityToken.ChannelID
	}
	c.tokens = append(c.tokens, t)
	if len(c.tokens) > 3 {
		c.tokens = c.tokens[1:]
	}
	c.sending = t
	if c.err == nil {
		c.renewal = time.AfterFunc(t.lifetime*3/4, c.renewAgain)
	}
	c.mu.Unlock()
	return nil
}

// renewAgain runs at three quarters of a token's life.
func (c *Channel) renewAgain() {
	select {
	case <-c.done:
		return
	default:
	}
	ctx, cancel := context.WithTimeout(context.Background(), c.cfg.Timeout) //nolint:forbidigo // a timer's callback has no caller
	defer cancel()
	if err := c.renew(ctx, ua.SecurityTokenRequestTypeRenew); err != nil {
		c.fail(fmt.Errorf("renew the channel's token: %w", err))
		_ = c.conn.Close()
	}
}
