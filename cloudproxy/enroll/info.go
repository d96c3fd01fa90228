package enroll

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"maps"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/util/retry"

	"github.com/skerry-io/skerry/certs"
)

const (
	infoName       = "skerry-info"
	infoServerKey  = "server"
	infoCAKey      = "ca.crt"
	infoClusterKey = "cluster"
)

// Info is what a join command is made of. Nothing in it is secret.
type Info struct {
	Server  string // HOST:PORT that edges dial
	CA      []byte // PEM
	Cluster string
}

// CAHash gives what the join command pins.
func (i Info) CAHash() (certs.CAHash, error) {
	block, _ := pem.Decode(i.CA)
	if block == nil {
		return certs.CAHash{}, fmt.Errorf("configmap %s: %s is not PEM", infoName, infoCAKey)
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return certs.CAHash{}, fmt.Errorf("configmap %s: %s: %w", infoName, infoCAKey, err)
	}
	return certs.HashCA(cert), nil
}

// ReadInfo reads what a proxy published.
func ReadInfo(ctx context.Context, client kubernetes.Interface, namespace string) (Info, error) {
	cm, err := client.CoreV1().ConfigMaps(namespace).Get(ctx, infoName, metav1.GetOptions{})
	if err != nil {
		return Info{}, fmt.Errorf("read configmap %s/%s: %w", namespace, infoName, err)
	}
	return Info{Server: cm.Data[infoServerKey], CA: []byte(cm.Data[infoCAKey]), Cluster: cm.Data[infoClusterKey]}, nil
}

// writeInfo leaves keys that people added alone.
func writeInfo(ctx context.Context, client kubernetes.Interface, namespace string, info Info) error {
	data := map[string]string{infoServerKey: info.Server, infoCAKey: string(info.CA), infoClusterKey: info.Cluster}
	err := updateConfigMap(ctx, client, namespace, infoName, func(old map[string]string) bool {
		before := maps.Clone(old)
		maps.Copy(old, data)
		return !maps.Equal(before, old)
	})
	if err != nil {
		return fmt.Errorf("publish configmap %s/%s: %w", namespace, infoName, err)
	}
	return nil
}

// updateConfigMap changes a ConfigMap's data, or makes it, against concurrent
// writers. The function reports whether it changed anything.
func updateConfigMap(ctx context.Context, client kubernetes.Interface, namespace, name string, change func(map[string]string) bool) error {
	configMaps := client.CoreV1().ConfigMaps(namespace)
	again := func(err error) bool { return apierrors.IsConflict(err) || apierrors.IsAlreadyExists(err) }
	return retry.OnError(retry.DefaultBackoff, again, func() error {
		cm, err := configMaps.Get(ctx, name, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			cm = &corev1.ConfigMap{
				ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, Labels: ownLabels()},
				Data:       map[string]string{},
			}
			change(cm.Data)
			_, err = configMaps.Create(ctx, cm, metav1.CreateOptions{})
			return err
		}
		if err != nil {
			return err
		}
		if cm.Data == nil {
			cm.Data = map[string]string{}
		}
		if !change(cm.Data) {
			return nil
		}
		_, err = configMaps.Update(ctx, cm, metav1.UpdateOptions{})
		return err
	})
}
