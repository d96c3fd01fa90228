package lab

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"strconv"
)

// Slot is SKERRY_E2E_SLOT, 0 to 3, and 0 if it is not set: checkouts of one machine whose
// labs run at once need one each.
func Slot() (int, error) {
	slot, err := strconv.Atoi(cmp.Or(os.Getenv("SKERRY_E2E_SLOT"), "0"))
	if err != nil || slot < 0 || slot > 3 {
		return 0, fmt.Errorf("SKERRY_E2E_SLOT is %q, not a number from 0 to 3", os.Getenv("SKERRY_E2E_SLOT"))
	}
	return slot, nil
}

// Main runs the tests m of a package in what begin brings up, and gives the exit status.
// Before that it removes what a run that was killed has left, and after it all is taken
// down by down, unless SKERRY_E2E_KEEP is set; logs stay.
func (l *Lab) Main(ctx context.Context, m interface{ Run() int }, begin, down func(context.Context) error) int {
	defer func() {
		if os.Getenv("SKERRY_E2E_KEEP") != "" {
			fmt.Printf("kept running: KUBECONFIG=%s\n", l.Kubeconfig())
			return
		}
		if err := down(ctx); err != nil {
			fmt.Println("down:", err)
		}
	}()
	err := l.Down(ctx)
	if err == nil {
		err = os.RemoveAll(l.Path("log"))
	}
	if err == nil {
		err = begin(ctx)
	}
	if err != nil {
		fmt.Println("bring up the lab:", err)
		return 1
	}
	code := m.Run()
	if code != 0 {
		fmt.Println("logs are in", l.Path("log"))
	}
	return code
}
