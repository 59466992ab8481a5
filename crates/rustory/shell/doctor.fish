# What `rr doctor` asks of a fish at its prompt, after the user's own rc files. It types one line that
# begins with a blank, which fish keeps in no file, and reads this one. Answers go to a file as pairs
# of name and value, each ended by NUL. The shell is killed afterwards, so there is no next prompt, no
# exit event, and no history to save; nothing here has to be put back.

function __rrd_say
    builtin printf '%s\0%s\0' $argv[1] "$argv[2]" >>@REPORT@
end

# Takes rr.fish through one command after another, beside an empty one, and says what the one took
# more than the other, in microseconds. Records go to a file of this probe. fish's builtins know no
# clock that is fine enough, so `date` is asked around twenty at a time.
function __rrd_measure
    builtin functions -q __rr_preexec __rr_postexec; or return
    builtin test -z "$fish_private_mode" -a "$RUSTORY_RECORD" != 0; or return
    set -g __rr_dir @DIR@
    set -g __rr_spool @SPOOL@
    set -eg __rr_retry
    __rr_create; or return
    set -l took
    for batch in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15
        set -l a (__rrd_clock)
        for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20
            __rrd_nothing ': rr doctor'
            __rrd_nothing
        end
        set -l b (__rrd_clock)
        for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20
            __rr_preexec ': rr doctor'
            __rr_postexec
        end
        set -l c (__rrd_clock)
        builtin string match -qr '^[0-9]+$' -- $a$b$c; or return
        set -a took (builtin math -s0 "(($c - $b) - ($b - $a)) / 20")
    end
    __rrd_say took "$took"
end
function __rrd_nothing
    builtin true
end
# Microseconds; not a number where `date` tells no nanoseconds.
function __rrd_clock
    command date +%s%6N
end

function __rrd_all
    __rrd_say version "$FISH_VERSION"
    __rrd_say loaded "$__rr_bin"
    __rrd_say bin "$__rr_bin"
    __rrd_say dir "$__rr_dir"
    __rrd_say spool "$__rr_spool"
    __rrd_say preexec (builtin functions -q __rr_preexec; and builtin echo yes)
    __rrd_say postexec (builtin functions -q __rr_postexec; and builtin echo yes)
    __rrd_say private "$fish_private_mode"
    __rrd_say history (set -q fish_history; and builtin test -z "$fish_history"; and builtin echo none)
    __rrd_say no_bind "$RUSTORY_NO_BIND"
    __rrd_say ctrl_r (builtin bind --user \cr 2>/dev/null; or builtin bind --preset \cr 2>/dev/null)
    __rrd_say rr_type (builtin functions -q rr; and builtin echo function)
    __rrd_say rr_path (builtin type -fp rr 2>/dev/null)
    __rrd_measure
    __rrd_say end ''
end
__rrd_all 2>/dev/null
builtin read __rrd_wait
command kill -KILL $fish_pid
