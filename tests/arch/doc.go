// Package arch holds the rules of the tree as tests: which folder may import
// what, that every package says what it is for, and how long a file may be.
//
// The rules are tables in rules_test.go and functions over parsed files; one
// test applies them to this repository, another to planted violations, so that
// a rule that can no longer fail is itself a failure.
package arch
