package config

import (
	"fmt"
	"path/filepath"

	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// LogBytes is ContainerLogMaxSize as a number.
func (c *Config) LogBytes() (int64, error) {
	q, err := resource.ParseQuantity(c.ContainerLogMaxSize)
	if err != nil {
		return 0, &Error{"containerLogMaxSize", fmt.Sprintf("%q is not a quantity", c.ContainerLogMaxSize)}
	}
	n, ok := q.AsInt64()
	if !ok || n == 0 {
		return 0, &Error{"containerLogMaxSize", fmt.Sprintf("%q is not a number of bytes", c.ContainerLogMaxSize)}
	}
	return n, nil
}

// validateStorage checks what is about logs and images.
func (c *Config) validateStorage() error {
	if _, err := c.LogBytes(); err != nil {
		return err
	}
	if c.ContainerLogMaxFiles < 2 {
		return &Error{"containerLogMaxFiles", fmt.Sprintf("is %d, must be 2 at least", c.ContainerLogMaxFiles)}
	}
	for _, p := range []struct {
		field string
		value int
	}{
		{"imageGCHighThresholdPercent", c.ImageGCHighThresholdPercent}, {"imageGCLowThresholdPercent", c.ImageGCLowThresholdPercent},
	} {
		if p.value < 0 || p.value > 100 {
			return &Error{p.field, fmt.Sprintf("is %d, must be from 0 to 100", p.value)}
		}
	}
	switch {
	case c.ImageGCLowThresholdPercent >= c.ImageGCHighThresholdPercent:
		return &Error{"imageGCLowThresholdPercent", fmt.Sprintf("is %d, must be less than imageGCHighThresholdPercent, %d", c.ImageGCLowThresholdPercent, c.ImageGCHighThresholdPercent)}
	case c.ImageMinimumGCAge.Duration < 0:
		return &Error{"imageMinimumGCAge", "is negative"}
	case c.ImageMaximumGCAge.Duration != 0 && c.ImageMaximumGCAge.Duration <= c.ImageMinimumGCAge.Duration:
		return &Error{"imageMaximumGCAge", fmt.Sprintf("is %v, must be 0s or more than imageMinimumGCAge, %v", c.ImageMaximumGCAge.Duration, c.ImageMinimumGCAge.Duration)}
	case c.MaxParallelImagePulls < 1:
		return &Error{"maxParallelImagePulls", fmt.Sprintf("is %d, must be 1 at least", c.MaxParallelImagePulls)}
	case (c.ImageCredentialProviderConfig == "") != (c.ImageCredentialProviderBinDir == ""):
		return &Error{"imageCredentialProviderBinDir", "and imageCredentialProviderConfig need each other"}
	}
	for _, d := range []struct{ field, path string }{
		{"imageCredentialProviderConfig", c.ImageCredentialProviderConfig}, {"imageCredentialProviderBinDir", c.ImageCredentialProviderBinDir}, {"imageDir", c.ImageDir},
	} {
		if d.path != "" && !filepath.IsAbs(d.path) {
			return &Error{d.field, fmt.Sprintf("%q is not an absolute path", d.path)}
		}
	}
	return nil
}

// withoutStorageDefaults empties what is as def says.
func (c *Config) withoutStorageDefaults(def *Config) {
	for _, f := range []struct{ of, def *int }{
		{&c.ContainerLogMaxFiles, &def.ContainerLogMaxFiles},
		{&c.ImageGCHighThresholdPercent, &def.ImageGCHighThresholdPercent},
		{&c.ImageGCLowThresholdPercent, &def.ImageGCLowThresholdPercent},
		{&c.MaxParallelImagePulls, &def.MaxParallelImagePulls},
	} {
		if *f.of == *f.def {
			*f.of = 0
		}
	}
	for _, f := range []struct{ of, def *metav1.Duration }{
		{&c.ImageMinimumGCAge, &def.ImageMinimumGCAge},
		{&c.ImageMaximumGCAge, &def.ImageMaximumGCAge},
	} {
		if *f.of == *f.def {
			*f.of = metav1.Duration{}
		}
	}
}
