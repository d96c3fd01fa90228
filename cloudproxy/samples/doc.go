// Package samples hands what devices have told, at full rate, to a database: each
// frame of an edge is one HTTP POST, as InfluxDB line protocol or as lines of JSON. A
// frame is acknowledged to its edge when the receiver has taken it, with a status of
// 200 to 299, and until then it waits in the edge's outbox. So a receiver may get a
// frame twice, and none is missing that the edge could keep.
//
// Package report is who calls it, after it has checked whose device it is.
package samples
