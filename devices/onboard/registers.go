package onboard

import (
	"bufio"
	"bytes"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/skerry-io/skerry/devices"
	"github.com/skerry-io/skerry/devices/modbus/value"
	"github.com/skerry-io/skerry/devices/v1alpha1"
)

// Columns says which columns a table of registers may have, for help and errors.
const Columns = `  name         the property's name (required)
  description  for people
  table        coil, discrete, input or holding (the default)
  address      of the first bit or register from 0, as on the wire; 0x is hexadecimal
  reference    instead of table and address, as manuals write it: 40001 is holding 0,
               30001 input 0, 10001 discrete 0, 00001 coil 0; also with six digits
  type         bool, int8 to uint64, float32, float64, bcd16, bcd32, string, bytes;
               by default bool for bits and uint16 for registers
  access       R (the default), RW or W
  unit         such as kPa
  min, max     the range of values
  scale        value = raw x scale + offset
  offset
  word order   big (the default) or little: of a value's registers
  byte order   big (the default) or little: of a register's bytes
  bit          of a bool in a register, 0 to 15
  length       registers of a string or of bytes
  count        elements of a list
  poll         how often it is read, as 500ms
  values       names of numbers, as 0=Off;1=On`

const (
	maxTable  = 4 << 20 // bytes
	maxErrors = 20
)

// TableError is a fault in a table of registers.
type TableError struct {
	Line, Column int // from 1; Column counts bytes, 0 is the whole line
	Field        string
	Reason       string
}

func (e *TableError) Error() string {
	at := fmt.Sprintf("line %d", e.Line)
	if e.Column > 0 {
		at += fmt.Sprintf(", column %d", e.Column)
	}
	if e.Field != "" {
		at += " (" + e.Field + ")"
	}
	return at + ": " + e.Reason
}

// Registers makes a DeviceModel and a Device of a table of Modbus registers: CSV with
// comma, semicolon or tab, the first line of which names columns (Columns). Empty lines
// and those that begin with # count for nothing. All faults are told, up to twenty: the
// error joins *TableErrors.
func Registers(r io.Reader, into Into) (Result, error) {
	t, err := readTable(r)
	if err != nil {
		return Result{}, err
	}
	name := objectName(into.Name)
	model, dev := into.model(name), into.device(name, name)
	taken := map[string]int{}
	var faults []error
	fault := func(err error) {
		if len(faults) < maxErrors {
			faults = append(faults, err)
		} else if len(faults) == maxErrors {
			faults = append(faults, errors.New("and more faults, which are not told"))
		}
	}
	for _, row := range t.rows {
		p, dp, def, err := row.property()
		if err == nil && def != nil && len(model.Spec.Types) >= maxTypes {
			err = row.fault("values", "more than %d properties with names of numbers, which is what a model has room for", maxTypes)
		}
		if err == nil && taken[p.Name] > 0 {
			err = row.fault("name", "property %s is in line %d already; give one of the two another name", p.Name, taken[p.Name])
		}
		if err != nil {
			fault(err)
			continue
		}
		taken[p.Name] = row.line
		if def != nil {
			model.Spec.Types = append(model.Spec.Types, *def)
		}
		if err := row.check(p, dp, &model.Spec); err != nil {
			fault(err)
			continue
		}
		model.Spec.Properties = append(model.Spec.Properties, p)
		dev.Spec.Properties = append(dev.Spec.Properties, dp)
	}
	switch {
	case len(faults) > 0:
		return Result{}, errors.Join(faults...)
	case len(model.Spec.Properties) == 0:
		return Result{}, errors.New("the table has no registers below its first line")
	case len(model.Spec.Properties) > maxProperties:
		return Result{}, fmt.Errorf("%d registers; a Device has room for %d: cut the table into several", len(model.Spec.Properties), maxProperties)
	}
	slices.SortFunc(model.Spec.Types, func(a, b v1alpha1.TypeDefinition) int { return strings.Compare(a.Name, b.Name) })
	out := Result{Models: []v1alpha1.DeviceModel{model}, Devices: []v1alpha1.Device{dev}}
	if first := dev.Spec.Properties[0].Modbus.Address; !t.references() && looksLikeReferences(dev.Spec.Properties) {
		out.leave("addresses", "they are taken as on the wire, such as %d; if the manual counts from 40001 or 30001, call the column reference", first)
	}
	return out, nil
}

// looksLikeReferences reports whether all addresses are where manuals count from.
func looksLikeReferences(list []v1alpha1.DeviceProperty) bool {
	return !slices.ContainsFunc(list, func(p v1alpha1.DeviceProperty) bool {
		n := p.Modbus.Address
		return n <= 30_000 || n >= 50_000 || n == 40_000 // SunSpec's are at 40000 on the wire
	})
}

// check has the driver's own rules look at a property.
func (r *row) check(p v1alpha1.Property, dp v1alpha1.DeviceProperty, model *v1alpha1.DeviceModelSpec) error {
	_, err := value.New(*dp.Modbus, p.ValueType, model)
	var config *devices.ConfigError
	switch {
	case errors.As(err, &config):
		column := config.Field
		if !r.has(column) && column == "address" {
			column = "reference"
		}
		return r.fault(column, "%s", config.Reason)
	case err != nil:
		return r.fault("", "%v", err)
	}
	if t := dp.Modbus.Table; p.Access != v1alpha1.ReadOnly && t != v1alpha1.TableCoil && t != v1alpha1.TableHolding {
		return r.fault("access", "table %s can't be written: take R, or table coil or holding", t)
	}
	return nil
}

// table is a CSV file with a head.
type table struct{ rows []*row }

func (t *table) references() bool {
	return slices.ContainsFunc(t.rows, func(r *row) bool { return r.has("reference") })
}

// row is a line of one: cells by column, with where they are.
type row struct {
	line  int
	cells map[string]cell
}

type cell struct {
	text   string
	column int
}

func (r *row) has(column string) bool   { return r.cells[column].text != "" }
func (r *row) get(column string) string { return r.cells[column].text }
func (r *row) fault(column, format string, args ...any) error {
	return &TableError{r.line, r.cells[column].column, column, fmt.Sprintf(format, args...)}
}

func columns() []string {
	return []string{
		"name", "description", "table", "address", "reference", "type", "access", "unit", "min", "max", "scale", "offset", "wordOrder", "byteOrder",
		"bit", "length", "count", "poll", "values",
	}
}

// column finds a column by what a head calls it.
func column(head string) (string, bool) {
	plain := func(s string) string {
		return strings.ToLower(strings.NewReplacer(" ", "", "_", "", "-", "").Replace(s))
	}
	for _, c := range columns() {
		if plain(c) == plain(head) {
			return c, true
		}
	}
	return "", false
}

func readTable(r io.Reader) (*table, error) {
	text, err := io.ReadAll(io.LimitReader(r, maxTable+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("read the table: %w", err)
	case len(text) > maxTable:
		return nil, fmt.Errorf("the table has more than %d bytes", maxTable)
	}
	text = bytes.TrimPrefix(text, []byte("\xef\xbb\xbf")) // a spreadsheet's
	in := csv.NewReader(bytes.NewReader(text))
	in.Comma, in.Comment, in.FieldsPerRecord, in.TrimLeadingSpace = separator(text), '#', -1, true
	head, err := in.Read()
	if errors.Is(err, io.EOF) {
		return nil, &TableError{Line: 1, Reason: "the table is empty; its first line must name columns, name and address at least"}
	}
	if err != nil {
		return nil, tableFault(err)
	}
	order, err := readHead(in, head)
	if err != nil {
		return nil, err
	}
	t := &table{}
	for {
		record, err := in.Read()
		if errors.Is(err, io.EOF) {
			return t, nil
		}
		if err != nil {
			return nil, tableFault(err)
		}
		line, _ := in.FieldPos(0)
		if len(record) > len(order) {
			return nil, &TableError{Line: line, Reason: fmt.Sprintf("%d cells, the first line names %d columns; put a text with %q in it in quotes", len(record), len(order), in.Comma)}
		}
		one := &row{line: line, cells: make(map[string]cell, len(record))}
		empty := true
		for i, cellText := range record {
			_, at := in.FieldPos(i)
			cellText = strings.TrimSpace(cellText)
			empty = empty && cellText == ""
			one.cells[order[i]] = cell{cellText, at}
		}
		if !empty {
			t.rows = append(t.rows, one)
		}
	}
}

func readHead(in *csv.Reader, head []string) (order []string, err error) {
	line, _ := in.FieldPos(0)
	for i, h := range head {
		_, at := in.FieldPos(i)
		c, ok := column(strings.TrimSpace(h))
		switch {
		case !ok:
			return nil, &TableError{line, at, "", fmt.Sprintf("there is no column %q; columns are %s", cut(h, 64), strings.Join(columns(), ", "))}
		case slices.Contains(order, c):
			return nil, &TableError{line, at, c, "the column is there twice"}
		}
		order = append(order, c)
	}
	switch {
	case !slices.Contains(order, "name"):
		return nil, &TableError{Line: line, Reason: "no column name; the first line must name columns, name and address (or reference) at least"}
	case !slices.Contains(order, "address") && !slices.Contains(order, "reference"):
		return nil, &TableError{Line: line, Reason: "no column address and none reference: where are the registers?"}
	}
	return order, nil
}

func tableFault(err error) error {
	if e, ok := errors.AsType[*csv.ParseError](err); ok {
		return &TableError{e.Line, e.Column, "", e.Err.Error()}
	}
	return fmt.Errorf("read the table: %w", err)
}

// separator is the one of comma, semicolon and tab that is most in the first line that
// is no comment.
func separator(text []byte) rune {
	lines := bufio.NewScanner(bytes.NewReader(text))
	lines.Buffer(nil, maxTable+1)
	for lines.Scan() {
		line := lines.Text()
		if strings.TrimSpace(line) == "" || strings.HasPrefix(line, "#") {
			continue
		}
		best := ','
		for _, c := range ";\t" {
			if strings.Count(line, string(c)) > strings.Count(line, string(best)) {
				best = c
			}
		}
		return best
	}
	return ','
}
