package servingcert

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const (
	// SecretName is the Secret with the certificate that all replicas serve.
	SecretName = "skerry-kubelet-serving"
	// pendingKey is the key of the request that is under way.
	pendingKey = "pending.key"
)

// pass looks at what there is, does the next thing that is missing, and says when
// to look again.
func (k *Keeper) pass(ctx context.Context) (time.Duration, error) {
	old, err := k.secret(ctx)
	if err != nil {
		return 0, err
	}
	now := time.Now()
	if pair, err := k.pair(old.Data[corev1.TLSCertKey], old.Data[corev1.TLSPrivateKeyKey]); err == nil {
		if c := k.use(pair); now.Before(c.renew) {
			k.set(state{ok: true, reason: "Issued", message: "signed by " + c.Leaf.Issuer.String() + " until " + c.Leaf.NotAfter.UTC().Format(time.RFC3339)})
			return min(c.renew.Sub(now), lookAgain), nil
		}
	}
	key := decodeKey(old.Data[pendingKey])
	if key == nil {
		return soon, k.begin(ctx, old)
	}
	csr, err := k.request(ctx, key)
	if errors.Is(err, errNotOurs) {
		// The Nodes' address has changed meanwhile, or somebody plays with us.
		return 0, errors.Join(err, k.drop(ctx, old))
	}
	if err != nil {
		return 0, err
	}
	return k.follow(ctx, old, key, csr)
}

// follow brings a request nearer to its end.
func (k *Keeper) follow(ctx context.Context, old stored, key *ecdsa.PrivateKey, csr *certificatesv1.CertificateSigningRequest) (time.Duration, error) {
	for _, t := range []certificatesv1.RequestConditionType{certificatesv1.CertificateDenied, certificatesv1.CertificateFailed} {
		if c := decided(csr, t); c != nil {
			return 0, errors.Join(fmt.Errorf("certificate signing request %s was %s: %s %s", csr.Name, t, c.Reason, c.Message), k.drop(ctx, old))
		}
	}
	if len(csr.Status.Certificate) > 0 {
		pair, err := k.issued(csr, key)
		if err != nil {
			return 0, errors.Join(err, k.drop(ctx, old))
		}
		return soon, k.keep(ctx, old, csr.Status.Certificate, pair)
	}
	if decided(csr, certificatesv1.CertificateApproved) == nil {
		approved, err := k.approve(ctx, csr)
		switch {
		case apierrors.IsForbidden(err):
			k.waiting("WaitingForApproval", "approve it by `kubectl certificate approve "+csr.Name+
				"`, or let the proxy do so by the ClusterRole skerry-cloudproxy-serving-approval")
			return patience(csr), nil
		case apierrors.IsConflict(err):
			return time.Second, nil
		case err != nil:
			return 0, err
		}
		csr = approved
	}
	k.waiting("WaitingForSigner", "certificate signing request "+csr.Name+" is approved and not signed: kube-controller-manager signs for "+
		csr.Spec.SignerName+" if it has --cluster-signing-cert-file and --cluster-signing-key-file; some managed clusters have nobody who does")
	return patience(csr), nil
}

// waiting notes that somebody else has to act.
func (k *Keeper) waiting(reason, message string) {
	if c := k.current.Load(); c != nil && validAt(c.Leaf, time.Now()) {
		message = fmt.Sprintf("the certificate in use ends at %s; %s", c.Leaf.NotAfter.UTC().Format(time.RFC3339), message)
	}
	k.set(state{reason: reason, message: message})
}

// patience is how soon to look at a request again: a controller answers in a
// moment, a person may take a day.
func patience(csr *certificatesv1.CertificateSigningRequest) time.Duration {
	switch age := time.Since(csr.CreationTimestamp.Time); {
	case age < 10*time.Second:
		return 500 * time.Millisecond
	case age < 10*time.Minute:
		return 5 * time.Second
	}
	return 30 * time.Second
}

// stored is the Secret as it was read.
type stored struct {
	*corev1.Secret
	exists bool
}

func (k *Keeper) secret(ctx context.Context) (stored, error) {
	secret, err := k.cfg.Client.CoreV1().Secrets(k.cfg.Namespace).Get(ctx, SecretName, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return stored{Secret: &corev1.Secret{
			ObjectMeta: metav1.ObjectMeta{
				Namespace: k.cfg.Namespace, Name: SecretName,
				Labels: map[string]string{"app.kubernetes.io/part-of": "skerry"},
			},
			// Of no type that demands a certificate: at first there is but a key.
			Type: corev1.SecretTypeOpaque,
		}}, nil
	}
	if err != nil {
		return stored{}, fmt.Errorf("get secret %s: %w", SecretName, err)
	}
	return stored{secret, true}, nil
}

// write changes the Secret unless somebody else has: then the next pass sees what.
func (k *Keeper) write(ctx context.Context, old stored, change func(data map[string][]byte)) error {
	secret := old.DeepCopy()
	data := maps.Clone(secret.Data)
	if data == nil {
		data = map[string][]byte{}
	}
	change(data)
	secret.Data = data
	secrets := k.cfg.Client.CoreV1().Secrets(k.cfg.Namespace)
	var err error
	if old.exists {
		_, err = secrets.Update(ctx, secret, metav1.UpdateOptions{})
	} else {
		_, err = secrets.Create(ctx, secret, metav1.CreateOptions{})
	}
	if err != nil && !apierrors.IsConflict(err) && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("write secret %s: %w", SecretName, err)
	}
	return nil
}

// begin puts a new key into the Secret, for all replicas.
func (k *Keeper) begin(ctx context.Context, old stored) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return fmt.Errorf("make a serving key: %w", err)
	}
	b, err := encodeKey(key)
	if err != nil {
		return err
	}
	return k.write(ctx, old, func(data map[string][]byte) { data[pendingKey] = b })
}

// drop gives a request up.
func (k *Keeper) drop(ctx context.Context, old stored) error {
	return k.write(ctx, old, func(data map[string][]byte) { delete(data, pendingKey) })
}

// keep puts a certificate in the place of the one before.
func (k *Keeper) keep(ctx context.Context, old stored, certPEM []byte, pair *tls.Certificate) error {
	k.use(pair)
	return k.write(ctx, old, func(data map[string][]byte) {
		data[corev1.TLSCertKey], data[corev1.TLSPrivateKeyKey] = certPEM, data[pendingKey]
		delete(data, pendingKey)
	})
}

// sameNames compares what a request says with what is wanted, in any order.
func sameNames(hosts []string, ips []net.IP, wantHosts []string, wantIPs []net.IP) bool {
	sorted := func(hosts []string, ips []net.IP) []string {
		all := slices.Clone(hosts)
		for _, ip := range ips {
			all = append(all, ip.String())
		}
		slices.Sort(all)
		return slices.Compact(all)
	}
	return slices.Equal(sorted(hosts, ips), sorted(wantHosts, wantIPs))
}
