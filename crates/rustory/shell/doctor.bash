# shellcheck shell=bash disable=SC2154 # what it asks for is set by rr.bash
# What `rr doctor` asks of a bash at its prompt, after the user's own rc files. It types one line that
# begins with a blank and reads this file. Answers go to a file as pairs of name and value, each ended
# by NUL. The shell is killed afterwards, so there is no next prompt, no exit trap, and no history to
# save; nothing here has to be put back.

\builtin set +euxv
\builtin unset HISTFILE

__rrd_say() { \builtin printf '%s\0%s\0' "$1" "$2" >>@REPORT@; }

# Takes rr.bash through one prompt cycle after another as if a command had run, beside an empty one,
# and says what the one took more than the other, in microseconds. Records go to a file of this probe.
__rrd_measure() {
    \builtin local __rrd_i __rrd_a __rrd_b __rrd_c __rrd_none='' __rrd_ps0='' __rrd_took=''
    \builtin local __rrd_first=__rr_precmd __rrd_last=__rr_ready
    [[ -n ${__rr_on[2]-} && -n ${EPOCHREALTIME-} ]] || \builtin return 0
    __rr_dir=@DIR@ __rr_spool=@SPOOL@ __rr_retry=0
    __rr_create || \builtin return 0
    # A line to record; the one that reads this is in no history.
    \builtin history -s ': rr doctor'
    ((__rr_timed)) && __rrd_ps0=$__rr_ps0
    for ((__rrd_i = 0; __rrd_i < 101; __rrd_i++)); do
        __rr_last=$((HISTCMD - 1))
        __rrd_a=${EPOCHREALTIME//[^0-9]/}
        : "${__rrd_none@P}"
        __rrd_nothing
        __rrd_nothing
        __rrd_b=${EPOCHREALTIME//[^0-9]/}
        : "${__rrd_ps0@P}"
        "$__rrd_first"
        "$__rrd_last"
        __rrd_c=${EPOCHREALTIME//[^0-9]/}
        __rrd_took+=" $((__rrd_c - __rrd_b - (__rrd_b - __rrd_a)))"
    done
    __rrd_say took "$__rrd_took"
}
__rrd_nothing() { :; }

__rrd_all() {
    __rrd_say version "$BASH_VERSION"
    __rrd_say loaded "${__rr_on[2]-}"
    __rrd_say bin "${__rr_bin-}"
    __rrd_say dir "${__rr_dir-}"
    __rrd_say spool "${__rr_spool-}"
    __rrd_say first "${__rr_first-}"
    __rrd_say final "${__rr_final-}"
    __rrd_say prompt_command "$(\builtin printf '%s\n' ${PROMPT_COMMAND[@]+"${PROMPT_COMMAND[@]}"})"
    __rrd_say prompt_command_flags "$(\builtin declare -p PROMPT_COMMAND 2>/dev/null)"
    __rrd_say timed "${__rr_timed-}"
    __rrd_say debug_trap "$(<@DIR@/trap)"
    __rrd_say shellopts "$SHELLOPTS"
    __rrd_say histsize "${HISTSIZE-}"
    __rrd_say no_bind "${RUSTORY_NO_BIND-}"
    __rrd_say binds "$(
        \builtin bind -X
        \builtin bind -s
        \builtin bind -p
    )"
    __rrd_say blesh "${BLE_VERSION-}"
    __rrd_say preexec "${bash_preexec_imported-}${__bp_imported-}"
    __rrd_say rr_type "$(\builtin type -t rr)"
    __rrd_say rr_path "$(\builtin type -P rr)"
    __rrd_measure
    __rrd_say end ''
}
__rrd_all 2>/dev/null
\builtin read -r __rrd_wait
\builtin kill -KILL "$$"
