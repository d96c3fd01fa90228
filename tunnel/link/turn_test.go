package link

import (
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestTurnOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var pipe turn
		if !pipe.acquire(newWaiter(0), nil, nil) {
			t.Fatal("a free turn was refused")
		}
		var mu sync.Mutex
		var got []int8
		for i, urgency := range []int8{5, 0, 5, 3, 0, firstUrgency} {
			w := newWaiter(urgency)
			go func() {
				if !pipe.acquire(w, nil, nil) {
					t.Errorf("waiter %d gave up", i)
				}
				mu.Lock()
				got = append(got, urgency)
				mu.Unlock()
				pipe.release()
			}()
			synctest.Wait()
		}
		pipe.release()
		synctest.Wait()
		if want := []int8{firstUrgency, 0, 0, 3, 5, 5}; !slices.Equal(got, want) {
			t.Errorf("order %v, want %v", got, want)
		}
		if pipe.held || len(pipe.queue) > 0 {
			t.Errorf("held %t, %d wait, after everybody is done", pipe.held, len(pipe.queue))
		}
	})
}

// Lanes of one urgency that write again and again take turns.
func TestTurnRoundRobin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var pipe turn
		pipe.acquire(newWaiter(0), nil, nil)
		var got []string
		for _, name := range []string{"a", "b", "c"} {
			w := newWaiter(6)
			go func() {
				for range 3 {
					pipe.acquire(w, nil, nil)
					got = append(got, name)   // the turn guards it
					<-time.After(time.Second) // until all others wait again
					pipe.release()
				}
			}()
			synctest.Wait()
		}
		pipe.release()
		<-time.After(time.Minute)
		if want := []string{"a", "b", "c", "a", "b", "c", "a", "b", "c"}; !slices.Equal(got, want) {
			t.Errorf("order %v, want %v", got, want)
		}
	})
}

func TestTurnGivenUp(t *testing.T) {
	var pipe turn
	pipe.acquire(newWaiter(0), nil, nil)
	stop := make(chan struct{})
	close(stop)
	w := newWaiter(0)
	for _, stops := range [][2]chan struct{}{{stop, nil}, {nil, stop}} {
		if pipe.acquire(w, stops[0], stops[1]) {
			t.Fatal("got the turn that is held")
		}
	}
	pipe.release()
	if !pipe.acquire(w, stop, nil) {
		t.Error("a free turn was refused")
	}
}

// Whoever gives up just when the turn comes must hand it on.
func TestTurnGivenUpAndGranted(t *testing.T) {
	var pipe turn
	for range 1000 {
		pipe.acquire(newWaiter(0), nil, nil)
		stop := make(chan struct{})
		var wg sync.WaitGroup
		wg.Go(func() {
			if pipe.acquire(newWaiter(0), stop, nil) {
				pipe.release()
			}
		})
		wg.Go(func() { close(stop) })
		pipe.release()
		wg.Wait()
		if pipe.held || len(pipe.queue) > 0 {
			t.Fatalf("held %t, %d wait, after everybody is done", pipe.held, len(pipe.queue))
		}
	}
}
