package edgeagent

import (
	"context"
	"math"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/skerry-io/skerry/edgeagent/cri"
)

// nodeImages lists the runtime's images for the node's status.
func nodeImages(client *cri.Client) func(ctx context.Context) ([]corev1.ContainerImage, error) {
	return func(ctx context.Context) ([]corev1.ContainerImage, error) {
		images, err := client.ListImages(ctx)
		if err != nil {
			return nil, err
		}
		list := make([]corev1.ContainerImage, 0, len(images))
		for _, i := range images {
			list = append(list, corev1.ContainerImage{
				Names: slices.Concat(i.Digests, i.Tags), SizeBytes: int64(min(i.SizeBytes, math.MaxInt64)),
			})
		}
		return list, nil
	}
}

// nodeImageDir gives a path on the file system where the runtime keeps images.
func nodeImageDir(client *cri.Client) func(ctx context.Context) (string, error) {
	return func(ctx context.Context) (string, error) {
		systems, err := client.ImageFilesystems(ctx)
		if err != nil || len(systems) == 0 {
			return "", err
		}
		return systems[0].Mountpoint, nil
	}
}
