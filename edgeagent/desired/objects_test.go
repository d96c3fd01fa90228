package desired_test

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/skerry-io/skerry/edgeagent/desired"
	"github.com/skerry-io/skerry/edgeagent/store"
)

// A pod of the cloud's can't pass for one of a file: it would be told to nobody.
func TestPodsOfTheCloudAreNotOfFiles(t *testing.T) {
	st, err := store.Open(store.Config{Dir: t.TempDir() + "/db"})
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{
		Namespace: "default", Name: "web",
		Annotations: map[string]string{"kubernetes.io/config.source": "file", "a": "b"},
	}}
	value, err := pod.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	const key = "pods/default/web"
	if err := st.Apply(store.Batch{Upserts: []store.Object{{Key: key, Version: "1", Value: value}}}); err != nil {
		t.Fatal(err)
	}
	if err := st.SetMeta("desired-synced", []byte{1}); err != nil {
		t.Fatal(err)
	}
	objects := &desired.Objects{Store: st}
	one, err := objects.Pod(key)
	if err != nil {
		t.Fatal(err)
	}
	all, err := objects.Pods()
	if err != nil || len(all) != 1 {
		t.Fatal(len(all), err)
	}
	for _, p := range []*corev1.Pod{one, all[0]} {
		if p.Annotations["kubernetes.io/config.source"] != "" || p.Annotations["a"] != "b" {
			t.Errorf("annotations %v", p.Annotations)
		}
	}
}
