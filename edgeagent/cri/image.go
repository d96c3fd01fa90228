package cri

import (
	"context"
	"fmt"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	runtimev1 "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// ImageStatus asks for one image by name, tag or digest. An image that is not
// there gives ErrNotFound.
func (c *Client) ImageStatus(ctx context.Context, ref string) (Image, error) {
	ctx, cancel := context.WithTimeout(ctx, shortCall)
	defer cancel()
	r, err := c.images.ImageStatus(ctx, &runtimev1.ImageStatusRequest{Image: &runtimev1.ImageSpec{Image: ref}})
	if err != nil {
		return Image{}, c.wrap("get image status", err)
	}
	if r.GetImage() == nil {
		return Image{}, fmt.Errorf("image %s: %w", ref, ErrNotFound)
	}
	return image(r.GetImage()), nil
}

// ListImages lists the images in the runtime's store.
func (c *Client) ListImages(ctx context.Context) ([]Image, error) {
	ctx, cancel := context.WithTimeout(ctx, shortCall)
	defer cancel()
	r, err := c.images.ListImages(ctx, &runtimev1.ListImagesRequest{})
	if err != nil {
		return nil, c.wrap("list images", err)
	}
	out := make([]Image, 0, len(r.GetImages()))
	for _, i := range r.GetImages() {
		out = append(out, image(i))
	}
	return out, nil
}

// PullImage fetches an image for a pod and returns the reference by which
// containers are created from it. It takes as long as the link needs: only ctx
// bounds it, since the runtime itself gives up on a pull that makes no progress.
func (c *Client) PullImage(ctx context.Context, ref string, auth *Auth, sandbox *SandboxConfig) (string, error) {
	req := &runtimev1.PullImageRequest{Image: &runtimev1.ImageSpec{Image: ref}}
	if sandbox != nil {
		req.SandboxConfig = sandboxConfig(sandbox)
	}
	if auth != nil {
		req.Auth = &runtimev1.AuthConfig{
			Username: auth.Username, Password: auth.Password, Auth: auth.Auth,
			ServerAddress: auth.ServerAddress, IdentityToken: auth.IdentityToken, RegistryToken: auth.RegistryToken,
		}
	}
	r, err := c.images.PullImage(ctx, req)
	if err != nil {
		return "", c.pullError(err)
	}
	return r.GetImageRef(), nil
}

// pullError keeps the text as kubelets show it: with the code, unless that says
// nothing.
func (c *Client) pullError(err error) error {
	s, ok := status.FromError(err)
	if !ok {
		return c.wrap("pull image", err)
	}
	switch s.Code() {
	case codes.Unavailable, codes.Canceled, codes.DeadlineExceeded:
		return c.wrap("pull image", err)
	case codes.Unknown:
		return fmt.Errorf("pull image: %w", &RuntimeError{Text: s.Message()})
	default:
		return fmt.Errorf("pull image: %w", &RuntimeError{Text: err.Error()})
	}
}

// RemoveImage removes an image from the runtime's store.
func (c *Client) RemoveImage(ctx context.Context, ref string) error {
	ctx, cancel := context.WithTimeout(ctx, shortCall)
	defer cancel()
	_, err := c.images.RemoveImage(ctx, &runtimev1.RemoveImageRequest{Image: &runtimev1.ImageSpec{Image: ref}})
	return c.gone("remove image", err)
}

// FilesystemUsage is how much a runtime file system holds.
type FilesystemUsage struct {
	Mountpoint string
	UsedBytes  uint64
	InodesUsed uint64
	At         time.Time
}

// ImageFilesystems reports the usage of the image file systems.
func (c *Client) ImageFilesystems(ctx context.Context) ([]FilesystemUsage, error) {
	ctx, cancel := context.WithTimeout(ctx, shortCall)
	defer cancel()
	r, err := c.images.ImageFsInfo(ctx, &runtimev1.ImageFsInfoRequest{})
	if err != nil {
		return nil, c.wrap("get image file system info", err)
	}
	out := make([]FilesystemUsage, 0, len(r.GetImageFilesystems()))
	for _, f := range r.GetImageFilesystems() {
		out = append(out, filesystemUsage(f))
	}
	return out, nil
}

func filesystemUsage(f *runtimev1.FilesystemUsage) FilesystemUsage {
	return FilesystemUsage{
		Mountpoint: f.GetFsId().GetMountpoint(),
		UsedBytes:  f.GetUsedBytes().GetValue(),
		InodesUsed: f.GetInodesUsed().GetValue(),
		At:         unixNano(f.GetTimestamp()),
	}
}

func image(i *runtimev1.Image) Image {
	out := Image{
		ID: i.GetId(), Tags: i.GetRepoTags(), Digests: i.GetRepoDigests(), SizeBytes: i.GetSize(),
		Username: i.GetUsername(), Pinned: i.GetPinned(),
	}
	if i.GetUid() != nil {
		uid := i.GetUid().GetValue()
		out.UID = &uid
	}
	return out
}
