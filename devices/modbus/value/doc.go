// Package value turns registers and bits into values and back: integers and floats
// in any order of words and bytes, BCD, bits, strings, arrays, with scale and offset.
//
// Decimal is exact: with scale 0.1 register 231 is 23.1, not 23.1000000000000014,
// and writing 23.1 sends 231. A value that no register gives is refused with its
// two neighbours, not rounded: what was written can be compared with what is read.
package value
