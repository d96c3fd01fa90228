package devices

import (
	"encoding/json"
	"fmt"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/skerry-io/skerry/devices"
	"github.com/skerry-io/skerry/devices/v1alpha1"
)

const (
	// maxStatus bounds a status, in bytes of JSON.
	maxStatus = 64 << 10
	// maxTwins is what of it the twins may have: the rest is far less than the
	// difference.
	maxTwins = maxStatus - 8<<10
	// maxShown is the longest value that a status shows.
	maxShown = 2 << 10
	// countersInterval is how often a status goes up of which only the counters
	// have changed.
	countersInterval = time.Minute
)

// statusWriter is what of a status was told and when.
type statusWriter struct {
	dirty        bool
	wasConnected bool
	told         string // without counters
	counters     v1alpha1.Counters
	at           time.Time // when it was told
	looked       time.Time // when it was made last
	conditions   []metav1.Condition
}

// due is when to look at the status again, false when there is no reason to.
func (s *statusWriter) due() (time.Time, bool) {
	return s.looked.Add(statusInterval), s.dirty
}

// publish tells the status if it has changed, at most once an interval.
func (w *worker) publish(now time.Time) {
	w.mu.Lock()
	s := &w.status
	s.dirty = true
	if now.Before(s.looked.Add(statusInterval)) {
		w.mu.Unlock()
		return
	}
	s.dirty, s.looked = false, now
	status := w.statusLocked(now)
	bare := status
	bare.Counters = v1alpha1.Counters{}
	text, err := json.Marshal(bare)
	if err != nil {
		w.mu.Unlock()
		w.log.Error("status of a device can't be encoded", "error", err)
		return
	}
	if string(text) == s.told && (s.counters == w.counters || now.Before(s.at.Add(countersInterval))) {
		w.mu.Unlock()
		return
	}
	s.told, s.counters, s.at = string(text), w.counters, now
	d := &v1alpha1.Device{ObjectMeta: metav1.ObjectMeta{
		Namespace: w.namespace, Name: w.name, UID: types.UID(w.uid),
	}, Status: status}
	w.mu.Unlock()
	w.cfg.Report.DeviceStatus(d)
}

func (w *worker) statusLocked(now time.Time) v1alpha1.DeviceStatus {
	st := v1alpha1.DeviceStatus{
		ObservedGeneration: w.want.device.Generation, Counters: w.counters, LastGap: w.lastGap,
	}
	if f := w.health.Fingerprint; f != "" {
		st.RejectedCertificate = &v1alpha1.RejectedCertificate{Fingerprint: cut(f, 95)}
	}
	good, unsynced, size := 0, "", 0
	for _, name := range w.order {
		v := w.twins[name]
		t := v.show(name)
		if v.known && v.shown.Quality.IsGood() {
			good++
		}
		if v.invalid != nil || !v.twin.Synced() {
			unsynced = name
		}
		text, err := json.Marshal(t)
		if size += len(text) + 1; err != nil || size > maxTwins {
			st.OmittedTwins++
			continue
		}
		st.Twins = append(st.Twins, t)
	}
	st.Summary = fmt.Sprintf("%d/%d good", good, len(w.order))
	if len(w.order) == 1 && len(st.Twins) == 1 && st.Twins[0].Value != nil {
		st.Summary = cut(st.Twins[0].Value.String(), 64)
	}
	w.status.conditions = w.conditionsLocked(now, unsynced)
	st.Conditions = w.status.conditions
	return st
}

// show is a property as the status has it.
func (v *view) show(name string) v1alpha1.Twin {
	t := v1alpha1.Twin{Name: name, Quality: devices.BadWaitingForInitialData.String(), Desired: v.desired}
	if v.known {
		t.Quality = v.shown.Quality.String()
		t.SourceTime, t.ServerTime = microTime(v.shown.Source), microTime(v.shown.Server)
		if text, err := devices.EncodeJSON(v.shown.Value); err != nil {
			t.LastError = cut(err.Error(), 512)
		} else if len(text) > maxShown {
			t.LastError = fmt.Sprintf("the value has %d bytes, and a status shows %d", len(text), maxShown)
		} else if v.shown.Value != nil {
			t.Value = &v1alpha1.JSON{Raw: text}
		}
	}
	switch {
	case v.invalid != nil:
		t.LastError = cut("desired value: "+v.invalid.Error(), 512)
	case v.twin.WriteError() != nil:
		t.LastError = cut("write: "+v.twin.WriteError().Error(), 512)
	}
	if v.desired != nil && len(v.desired.Raw) > maxShown {
		t.Desired = nil
	}
	return t
}

func (w *worker) conditionsLocked(now time.Time, unsynced string) []metav1.Condition {
	h := w.health
	make1 := func(kind string, is bool, reason, message string) metav1.Condition {
		c := metav1.Condition{
			Type: kind, Status: metav1.ConditionFalse, Reason: reasonOf(reason), Message: cut(message, 512),
			ObservedGeneration: w.want.device.Generation, LastTransitionTime: metav1.NewTime(now.Truncate(time.Second)),
		}
		if is {
			c.Status = metav1.ConditionTrue
		}
		for _, before := range w.status.conditions {
			if before.Type == kind && before.Status == c.Status {
				c.LastTransitionTime = before.LastTransitionTime
			}
		}
		return c
	}
	synced := make1(v1alpha1.ConditionSynced, unsynced == "", "AsDesired", "")
	if unsynced != "" {
		synced.Reason, synced.Message = "NotAsDesired", "property "+unsynced+" is not as desired"
	}
	degraded := make1(v1alpha1.ConditionDegraded, false, "AsExpected", "")
	switch {
	case w.fault != nil:
		degraded = make1(v1alpha1.ConditionDegraded, true, w.fault.reason, w.fault.message)
	case h.Degraded != "":
		degraded = make1(v1alpha1.ConditionDegraded, true, h.Degraded, h.DegradedMessage)
	}
	return []metav1.Condition{make1(v1alpha1.ConditionConnected, h.Connected, h.Reason, h.Message), synced, degraded}
}

// reasonOf is a word as the API takes it: a driver's may be anything.
func reasonOf(s string) string {
	out := make([]rune, 0, len(s))
	for _, r := range cut(s, 128) {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' && len(out) > 0 {
			out = append(out, r)
		}
	}
	if len(out) == 0 {
		return "Unknown"
	}
	return string(out)
}

// cut shortens text to so many bytes, without half a character.
func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && s[n]&0xC0 == 0x80 {
		n--
	}
	return s[:n]
}
