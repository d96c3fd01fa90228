// Package chaos holds a test that breaks the link between two real processes in
// every way it knows, again and again and two ways at once, while streams of all
// sorts go on between them. A model knows each byte of each stream, its end and
// its code, so that nothing is lost, doubled, mixed up or left open unseen.
//
//	namespace skc-edge0                                namespace skc-cloud0
//	  edge: tunnel.Dial, streams of both sides           cloud: tunnel.Listen
//	  skce 10.212.1.2/24 ------- bench/linkemu -------   skcc 10.212.1.1/24
//
// All chance comes from one seed, which is printed; "make chaos SEED=..." plays
// the same faults again, and FAULTS="outage nat" only some kinds. What streams do
// and what the link loses differs from run to run. It needs root; without
// SKERRY_E2E in the environment only the tests of model and schedule run.
package chaos
