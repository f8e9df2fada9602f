package main

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// takesNothing refuses arguments: most often they are what belongs to a flag, which the hint names.
func takesNothing(hint string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		if len(args) == 0 {
			return nil
		}
		return fmt.Errorf("%q: the command takes no arguments; %s", args[0], hint)
	}
}

// takes refuses more arguments than a command can use; what says which those are.
func takes(most int, what string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		if len(args) <= most {
			return nil
		}
		return fmt.Errorf("%q: one argument too many; write %s", args[most], what)
	}
}

// refuseUnknown has the commands that cobra adds refuse what they do not know. Of themselves they print some help instead and exit with 0, which a script takes for a success.
func refuseUnknown(root *cobra.Command) {
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd()
	for _, c := range root.Commands() {
		switch c.Name() {
		case "help":
			c.Args = isCommand
		case "completion":
			namesShell(c)
		}
	}
}

// isCommand refuses arguments that are not the path of a command.
func isCommand(help *cobra.Command, args []string) error {
	found, rest, err := help.Root().Find(args)
	if err == nil && len(rest) > 0 {
		return fmt.Errorf("%q: there is no such command of \"%s\"", rest[0], found.CommandPath())
	}
	return err
}

// namesShell has the parent of the shells' commands refuse to be run itself, and their scripts that could not be written be a failure of the world.
func namesShell(completion *cobra.Command) {
	var shells []string
	for _, shell := range completion.Commands() {
		shells = append(shells, shell.Name())
		write := shell.RunE
		shell.RunE = func(cmd *cobra.Command, args []string) error {
			if err := write(cmd, args); err != nil {
				return failure{err}
			}
			return nil
		}
	}
	completion.Args = takes(1, "one shell")
	completion.RunE = func(_ *cobra.Command, args []string) error {
		if len(args) == 0 {
			return fmt.Errorf("no shell: name one of %v", shells)
		}
		return fmt.Errorf("shell %q: choose one of %v", args[0], shells)
	}
}

// What takesNothing says.
const (
	nameFiles  = "name files with -f"
	flagsAlone = "say everything by flags"
)

// existing refuses what a flag names and what is not there, or cannot be looked at; "-" is standard input.
func existing(flag string, paths ...string) error {
	for _, path := range paths {
		if path == "" || path == "-" {
			continue
		}
		_, err := os.Stat(path)
		var at *fs.PathError
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return fmt.Errorf("%s does not exist: name an existing one with %s", path, flag)
		case errors.As(err, &at):
			return fmt.Errorf("%s cannot be read: %w; name another file with %s", path, at.Err, flag)
		case err != nil:
			return fmt.Errorf("%s: %w", flag, err)
		}
	}
	return nil
}

// input is a list of files and folders, and the flag that names them.
type input struct {
	flag  string
	paths []string
}

// inputs refuses what cannot be read of them all, and standard input where it would have to be read twice.
func inputs(all ...input) error {
	stdin := ""
	for _, in := range all {
		for _, path := range in.paths {
			switch {
			case path == "":
				return fmt.Errorf("%s \"\": name a file or a folder", in.flag)
			case path == "-" && stdin != "":
				return fmt.Errorf("%s -: standard input is read by %s already, and can be read once; name a file", in.flag, stdin)
			case path == "-":
				stdin = in.flag
			}
		}
		if err := existing(in.flag, in.paths...); err != nil {
			return err
		}
	}
	return nil
}

// unused refuses flags that would be ignored; beside says what makes them so.
func unused(flags *pflag.FlagSet, beside string, names ...string) error {
	for _, name := range names {
		if flags.Changed(name) {
			return fmt.Errorf("--%s has no meaning %s: leave one of them out", name, beside)
		}
	}
	return nil
}

// alias has a command take a flag by an older name too, which its help does not show.
func alias(cmd *cobra.Command, old, name string) {
	cmd.Flags().SetNormalizeFunc(func(_ *pflag.FlagSet, written string) pflag.NormalizedName {
		if written == old {
			written = name
		}
		return pflag.NormalizedName(written)
	})
}

// socketAddress reads an address that a flag gives, HOST:PORT or unix:PATH, and whether other machines could reach who listens there. What a host's name stands for shows
// when it is used.
func socketAddress(flag, address string) (open bool, err error) {
	if path, isUnix := strings.CutPrefix(address, "unix:"); isUnix {
		if strings.Trim(path, "/") == "" {
			return false, fmt.Errorf("%s %q: the path is missing: write unix:PATH", flag, address)
		}
		return false, nil
	}
	host, err := hostOf(flag, address, "HOST:PORT or unix:PATH")
	if err != nil || host == "" {
		return err == nil, err
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && !ip.IsLoopback(), nil
}

// hostOf is the host of HOST:PORT; form is what to write instead of what is something else.
func hostOf(flag, address, form string) (string, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return "", fmt.Errorf("%s %q: write %s", flag, address, form)
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return "", fmt.Errorf("%s %q: %q is no port: write a number up to 65535", flag, address, port)
	}
	return host, nil
}
