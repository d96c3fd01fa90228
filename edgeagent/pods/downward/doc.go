// Package downward answers what a pod may ask about itself: fieldRef and
// resourceFieldRef, for environment variables and for downwardAPI volumes, and
// the $(VAR) expansion of commands. It is pure.
package downward
