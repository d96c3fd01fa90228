// Package dictionary compresses the values that go down to edges: Kubernetes
// objects, most of them small and much like one another. It is zstd with a
// dictionary that both halves have in their binaries; the number of an encoding
// stands for both and is never used for another dictionary.
//
// cloudproxy/desired encodes, edgeagent/desired decodes. What comes to a Decoder
// may be anything: a window of at most 512 KiB is taken, and no more than
// MaxDecoded bytes come out.
//
// The dictionary is made by bench/dictionary from objects that are made by code.
// It knows no object of anybody's; making it again gives the same bytes, and a new
// one needs a new number.
package dictionary

//go:generate go run ../../bench/dictionary -out v1.dict
