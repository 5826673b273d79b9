package main

import (
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/term"
	"k8s.io/client-go/tools/remotecommand"
)

// terminal is this program's own; what is typed goes to the other one as it is.
type terminal struct {
	before  *term.State
	changed chan os.Signal
}

func openTerminal() (*terminal, error) {
	before, err := term.MakeRaw(0)
	if err != nil {
		return nil, err
	}
	t := &terminal{before, make(chan os.Signal, 1)}
	// The first size is one, too.
	t.changed <- syscall.SIGWINCH
	signal.Notify(t.changed, syscall.SIGWINCH)
	return t, nil
}

func (t *terminal) restore() { term.Restore(0, t.before) }

// Next gives each size that the terminal gets.
func (t *terminal) Next() *remotecommand.TerminalSize {
	<-t.changed
	columns, rows, err := term.GetSize(0)
	if err != nil {
		return nil
	}
	return &remotecommand.TerminalSize{Width: uint16(columns), Height: uint16(rows)}
}
