// Package storetest has a disk in memory from which the power can be taken, for tests of
// the store and of those who use it.
package storetest
