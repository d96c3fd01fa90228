// Package browse walks a server's address space for onboarding: breadth first, many
// nodes in a request, each node once, with the attributes that make a model of it.
package browse
