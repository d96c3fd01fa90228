package config

import (
	"fmt"

	"k8s.io/apimachinery/pkg/api/resource"
)

// leastRate is the least that MaxRate may be, in bits per second: with less a report of
// the node's state takes longer than the time to the next one.
const leastRate = 10_000

// BytesPerSecond is MaxRate; zero means that there is no bound.
func (c *Config) BytesPerSecond() (int64, error) {
	if c.MaxRate == "" {
		return 0, nil
	}
	q, err := resource.ParseQuantity(c.MaxRate)
	if err != nil {
		return 0, &Error{"maxRate", fmt.Sprintf("%q is no number of bits per second such as 2M", c.MaxRate)}
	}
	if q.Value() < leastRate {
		return 0, &Error{"maxRate", fmt.Sprintf("%s bits per second is less than %d", c.MaxRate, leastRate)}
	}
	return q.Value() / 8, nil
}
