# Rustory's hook for fish 3.1 and later: `rr init fish | source` in ~/.config/fish/config.fish.
#
# It appends what was typed to this shell's spool file, with builtins alone: no process, no
# database, no waiting. Everything else happens when `rr` reads the spool. README.md beside this
# file says what may be relied on; the record format is in rustory-core's `spool.rs`.
#
# A record says that a command starts, another one that it has ended, so a command whose terminal
# dies is kept too. Names begin with `__rr_`; nothing is exported. Builtins are called as
# `builtin name`, since functions may carry their names.

if status is-interactive

    set -g __rr_bin @RR@
    set -g __rr_dir @SPOOL@

    # --- What runs around every command --------------------------------------------------------

    # In: the line as typed.
    function __rr_preexec --on-event fish_preexec
        __rr_is_kept $argv[1]; or return 0
        __rr_is_writable; or __rr_create; or return 0
        set -l start (__rr_now)
        begin
            builtin printf '\0\036S1\0%s\0%s\0%s\0=%s\0\037' $__rr_session "$start" "$PWD" $argv[1] >>$__rr_spool
        end 2>/dev/null
        or __rr_failed
        set -g __rr_running yes
    end

    # fish says how long the command took, without what other hooks add.
    function __rr_postexec --on-event fish_postexec
        set -l ended $status
        set -q __rr_running; or return 0
        set -eg __rr_running
        __rr_is_writable; or return 0
        begin
            builtin printf '\0\036E1\0%s\0%s\0%s\0\037' $__rr_session "$CMD_DURATION" $ended >>$__rr_spool
        end 2>/dev/null
        or __rr_failed
    end

    # Whether the line is recorded: not with a blank in front, not in private mode, and not what
    # fish itself is told to keep out of its history.
    function __rr_is_kept
        builtin string match -qr '^[^ \t]' -- $argv[1]; or return 1
        if set -q __rr_retry
            set -l now (__rr_seconds); or set now 0
            builtin test $now -gt $__rr_retry; or return 1
            set -eg __rr_retry
        end
        builtin test -z "$fish_private_mode" -a "$RUSTORY_RECORD" != 0; or return 1
        if set -q fish_history
            builtin test -n "$fish_history"; or return 1
        end
        if builtin functions -q fish_should_add_to_history
            fish_should_add_to_history $argv[1]; or return 1
        end
        return 0
    end

    # --- The spool file ------------------------------------------------------------------------

    # fish tells what it can't open whatever stderr is, so it is asked first.
    function __rr_is_writable
        builtin test -f $__rr_spool -a -s $__rr_spool -a -w $__rr_spool
    end

    # fish itself shows that a disk is full, and nothing keeps it from that: once in ten minutes is
    # enough.
    function __rr_failed
        set -g __rr_retry (__rr_seconds | builtin string collect)
        builtin test -n "$__rr_retry"; or set -g __rr_retry 0
        set -g __rr_retry (builtin math $__rr_retry + 600)
    end

    # Creates this shell's spool file, readable by its owner alone. `umask` is a variable that
    # fish acts upon.
    function __rr_create
        builtin test -d $__rr_dir -a -w $__rr_dir; or return 1
        if builtin test -e $__rr_spool
            builtin test -f $__rr_spool -a -w $__rr_spool; or return 1
        else if builtin test -L $__rr_spool
            return 1
        end
        set -l before $umask
        set umask 0077
        begin
            builtin printf '\0\036H1\0%s\0fish\0%s\0%s\0%s\0\037' $__rr_session $FISH_VERSION $fish_pid "$hostname" >>$__rr_spool
        end 2>/dev/null
        set umask $before
        __rr_is_writable
    end

    # The name of the session: the clock, the process id, and chance.
    function __rr_new_session
        set -g __rr_ticks 0
        set -g __rr_session (builtin printf '%x-%x-%08x' (__rr_seconds; or echo 0) $fish_pid (builtin random 0 4294967295))
        set -g __rr_spool $__rr_dir/$__rr_session.spool
        builtin test -n "$fish_private_mode"; or __rr_create
    end

    # Seconds since 1970. The one clock that fish's builtins have is the age of a file, from fish
    # 3.6 on.
    function __rr_seconds
        set -l ages (builtin path mtime -- /; builtin path mtime -R -- /) 2>/dev/null
        builtin test (builtin count $ages) -eq 2; or return 1
        builtin math $ages[1] + $ages[2]
    end

    # Microseconds since 1970, or nothing. A count in place of what a second does not tell keeps
    # commands in order.
    function __rr_now
        set -l seconds (__rr_seconds); or return 0
        set -g __rr_ticks (builtin math "($__rr_ticks + 1) % 1000000")
        builtin printf '%d%06d' $seconds $__rr_ticks
    end

    # --- ctrl+r --------------------------------------------------------------------------------

    # Lets the user choose with the finder and puts the choice on the line. `rr search --widget`
    # draws on the terminal, prints the choice and a `.` (so that it keeps its newlines), and exits
    # 0, or 130 when cancelled. The line goes in by the environment, never as an argument.
    function __rr_widget
        if not builtin test -x $__rr_bin
            __rr_tell "rr: cannot run $__rr_bin: install Rustory again, then open a new shell"
            return 0
        end
        set -l query (builtin commandline -b | builtin string collect)
        set -l out (RUSTORY_QUERY="$query" RUSTORY_SESSION=$__rr_session $__rr_bin search --widget </dev/tty 2>| builtin read -gz __rr_said)
        set -l ended $pipestatus[1]
        if builtin test $ended -eq 0
            and builtin string match -q '*.' -- $out[-1]
            set out[-1] (builtin string replace -r '\.$' '' -- $out[-1])
            # Several arguments become lines.
            builtin commandline -r -- $out
            builtin commandline -f repaint
        else if builtin test $ended -ne 130
            __rr_tell "$__rr_said"
        else
            builtin commandline -f repaint
        end
    end

    # Says something below the line, which is drawn again below that.
    function __rr_tell
        builtin printf '\n%s\n' (builtin string trim -r -- $argv[1]) >&2
        builtin commandline -f repaint
    end

    # --- Loading -------------------------------------------------------------------------------

    # Globals are not inherited, so this tells a shell that has loaded this from a child of one.
    set -qg __rr_session; or __rr_new_session
    if builtin test -z "$RUSTORY_NO_BIND"
        # Emacs' keys and vi's commands, and vi's insertions.
        bind \cr __rr_widget
        bind -M insert \cr __rr_widget
    end

end
