# shellcheck shell=bash
# Rustory's hook for bash 3.2 to 5.3: `eval "$(rr init bash)"` in ~/.bashrc.
#
# It appends what was typed to this shell's spool file, with builtins alone: no process, no
# database, no waiting. Everything else happens when `rr` reads the spool. README.md beside this
# file says what may be relied on; the record format is in rustory-core's `spool.rs`.
#
# How it works:
# - PS0 is expanded when a command is about to run. Arithmetic in it notes the time and the
#   history number without running anything: no DEBUG trap, no subshell.
# - `__rr_precmd` is the first entry of PROMPT_COMMAND and appends one record if a command ran.
# - `__rr_ready` is the last entry and notes where, and under which history rules, the next line
#   will be read; entries in between may change the directory or reload the history.
#
# Names begin with `__rr_` and are not exported. Builtins are called as `\builtin name`, since
# aliases and functions may carry their names. Nothing here relies on IFS or fails under `set -eu`.
# The hooks run with stderr closed, at half the cost of /dev/null: no error shows, and no `set -x`.

if [[ $- == *i* ]]; then

__rr_bin=@RR@
__rr_dir=@SPOOL@
__rr_version=$((BASH_VERSINFO[0] * 100 + BASH_VERSINFO[1]))

# --- What runs before every prompt -----------------------------------------------------------

# The first entry of PROMPT_COMMAND: appends a record of what was typed.
#
# Up to bash 5.0 all entries share one string, so it leaves `$?` as it was, and `$_` where that is
# given as "$1"; not under `set -e`, where a status would end the shell. Later versions do this for
# every entry, and a status would only fire the user's ERR trap once more.
__rr_precmd() {
    # Quoted: behind \builtin, `local` splits what it is given by IFS.
    \builtin local __rr_ec="$?" __rr_now="${EPOCHREALTIME-}" __rr_number="$HISTCMD"
    ((__rr_version >= 501)) || __rr_number_of_next
    \builtin local __rr_status="$__rr_ec" __rr_count="$((__rr_number - __rr_last))"
    \builtin local __rr_start='' __rr_ms='' __rr_since=''
    if [[ $__rr_history == off || ${RUSTORY_RECORD-} == 0 ]]; then
        __rr_count=0
    elif ((__rr_t0)); then
        __rr_ran
    elif ((__rr_timed)); then
        # Nothing ran. What is new in the history all the same is a comment or did not parse,
        # unless it is a line given up with ctrl+c.
        ((__rr_ec == 130)) && __rr_count=0
        ((__rr_ec == 2 && __rr_before != 2)) || __rr_status=
    elif ((__rr_count < 1)) && [[ $__rr_history == moves ]]; then
        # Without PS0 nothing tells whether a command ran; the time of the last line may.
        __rr_count=1 __rr_since=$__rr_ready_at
    fi
    # Whatever was put in front of this hook has replaced the status.
    [[ ${PROMPT_COMMAND-} == "$__rr_first"* ]] || __rr_status=
    ((__rr_count < 1)) || __rr_append
    __rr_last=$__rr_number __rr_cwd=$PWD __rr_t0=0 __rr_t1=0
    [[ ${PROMPT_COMMAND[*]-} == "$__rr_hooked" ]] || __rr_hook
    ((__rr_version >= 501)) || [[ $- == *e* ]] || \builtin return "$__rr_ec"
    \builtin return 0
} 2>&-

# Decides what the last lines of the history are worth, given that a command ran.
__rr_ran() {
    __rr_start=$__rr_t0
    __rr_now=${__rr_now//[^0-9]/}
    [[ -z $__rr_now ]] || __rr_ms=$(((10#$__rr_now - __rr_t0) / 1000))
    ((__rr_ms >= 0)) || __rr_ms=
    if ((__rr_number != __rr_n)); then
        # The command changed the history itself (`history -c`, `-r`, `-d`): what is last in it
        # now need not be what was typed.
        __rr_count=0
    elif ((__rr_count < 1)); then
        # The number did not rise: a repetition, or a line kept out of the history.
        case $__rr_history in
        all) __rr_count=1 ;;
        moves) __rr_count=1 __rr_since=$__rr_ready_at ;;
        esac
    fi
}

# Appends the last `__rr_count` lines of the history as one record. They are printed by `history`
# itself, straight into the file; its time format marks where each begins.
__rr_append() {
    [[ -s $__rr_spool ]] || __rr_create || \builtin return 0
    {
        \builtin printf '\0\036L1\0%s\0%s\0%s\0%s\0%s\0%s\0%s\0' "$__rr_session" \
            "${__rr_start:+$__rr_t1}" "$__rr_start" "$__rr_ms" "$__rr_status" "$__rr_cwd" "$__rr_since"
        HISTTIMEFORMAT=$'\036%s\036' \builtin history "$__rr_count"
        \builtin printf '\0\037'
    } >>"$__rr_spool" || :
}

# The last entry of PROMPT_COMMAND: notes how the next line will be read.
__rr_ready() {
    \builtin local __rr_ec="$?" __rr_number="$HISTCMD"
    ((__rr_version >= 501)) || __rr_number_of_next
    __rr_last=$__rr_number __rr_cwd=$PWD __rr_t0=0 __rr_t1=0 __rr_timed=0 __rr_before=$__rr_ec
    # all: whatever runs is the last line of the history. moves: a repetition moves up and keeps
    # the number. some: lines may be missing, and an unchanged number tells nothing.
    if [[ :$SHELLOPTS: != *:history:* || ${RUSTORY_RECORD-} == 0 ]]; then
        __rr_history=off
    elif [[ -z ${HISTIGNORE-} && ${HISTCONTROL-} != *ignorespace* && ${HISTCONTROL-} != *ignoreboth* ]]; then
        __rr_history=all
    elif [[ ${HISTCONTROL-} == *erasedups* ]]; then
        __rr_history=moves
        __rr_clock
    else
        __rr_history=some
    fi
    __rr_hook_ps0
    [[ ${PROMPT_COMMAND[*]-} == "$__rr_hooked" ]] || __rr_hook
    ((__rr_version >= 501)) || [[ $- == *e* ]] || \builtin return "$__rr_ec"
    \builtin return 0
} 2>&-

# HISTCMD, for versions in which it is 1 within PROMPT_COMMAND, into `__rr_number`. The builtin has
# no other way out than a file; it is empty again afterwards.
__rr_number_of_next() {
    \builtin local __rr_rest
    __rr_number=0
    if [[ -e $__rr_spool~ ]]; then
        HISTTIMEFORMAT='' \builtin history 1 >|"$__rr_spool~" || :
        IFS=' ' \builtin read -r __rr_number __rr_rest <"$__rr_spool~" || :
        : >|"$__rr_spool~" || :
    fi
    __rr_number=${__rr_number%%[!0-9]*}
    __rr_number=$((__rr_number + 1))
}

# Seconds since 1970, into `__rr_ready_at`.
__rr_clock() {
    if ((__rr_version >= 402)); then
        \builtin printf -v __rr_ready_at '%(%s)T' -1
    else
        __rr_ready_at=$((__rr_loaded + SECONDS))
    fi
}

# --- The spool file --------------------------------------------------------------------------

# Creates this shell's spool file, readable by its owner alone. The one fork: at load time, and
# when the file has vanished; where that fails, it is tried again after ten seconds.
__rr_create() {
    [[ -d $__rr_dir ]] || \builtin return 1
    ((SECONDS >= __rr_retry || SECONDS < __rr_retry - 10)) || \builtin return 1
    (
        \builtin umask 077
        ((__rr_version >= 501)) || : >>"$__rr_spool~"
        \builtin printf '\0\036H1\0%s\0bash\0%s\0%s\0%s\0\037' "$__rr_session" \
            "$BASH_VERSION" "$$" "$HOSTNAME" >>"$__rr_spool"
    ) && \builtin return 0
    __rr_retry=$((SECONDS + 10))
    \builtin return 1
} 2>/dev/null

# The clock and the process id make the session's name; two shells of one tick differ by RANDOM.
__rr_new_session() {
    if ((__rr_version >= 402)); then
        \builtin printf -v __rr_loaded '%(%s)T' -1
    else
        __rr_loaded=$(\command date +%s)
    fi
    __rr_spool=''
    while [[ -z $__rr_spool || -e $__rr_spool ]]; do
        \builtin printf -v __rr_session '%x-%x-%04x%04x' "$__rr_loaded" "$$" "$RANDOM" "$RANDOM"
        __rr_spool=$__rr_dir/$__rr_session.spool
    done
    __rr_loaded=$((__rr_loaded - SECONDS))
    __rr_last=0 __rr_n=0 __rr_t0=0 __rr_t1=0 __rr_timed=0 __rr_retry=0 __rr_before=0 __rr_tick=0
    # The first prompt records nothing: what is in the history by then was typed elsewhere.
    __rr_history=off __rr_cwd=$PWD __rr_ready_at='' __rr_hooked=''
    __rr_create || :
}

# --- Getting into PROMPT_COMMAND and PS0 -----------------------------------------------------

# Puts the hook around what is in PROMPT_COMMAND, at load time and whenever it was changed.
__rr_hook() {
    if __rr_is_readonly PROMPT_COMMAND; then
        __rr_hooked=${PROMPT_COMMAND[*]-}
        \builtin return 1
    fi
    if ((__rr_version >= 501)); then
        __rr_hook_array
    else
        __rr_hook_string
    fi
    __rr_hooked=${PROMPT_COMMAND[*]-}
}

# Asks, since an attempt to assign would end more than the attempt.
__rr_is_readonly() {
    \builtin local __rr_flags
    __rr_flags=$(\builtin declare -p "$1" 2>/dev/null)
    __rr_flags=${__rr_flags#declare -}
    [[ ${__rr_flags%% *} == *r* ]]
}

# bash 5.1 keeps `$?`, `$_` and PIPESTATUS for each entry of an array.
__rr_hook_array() {
    \builtin local __rr_entry __rr_top='' __rr_plain __rr_old
    __rr_old=(${PROMPT_COMMAND[@]+"${PROMPT_COMMAND[@]}"})
    PROMPT_COMMAND=("$__rr_first")
    for __rr_entry in ${__rr_old[@]+"${__rr_old[@]}"}; do
        __rr_without "$__rr_entry"
        # An rc file read again assigns entry 0 anew, while what it was before lies further down.
        [[ -z $__rr_plain || -n $__rr_hooked && $__rr_plain == "$__rr_top" ]] && continue
        __rr_top=${__rr_top:-$__rr_plain}
        PROMPT_COMMAND+=("$__rr_plain")
    done
    PROMPT_COMMAND+=("$__rr_final")
}

__rr_hook_string() {
    \builtin local __rr_plain
    __rr_without "${PROMPT_COMMAND-}"
    # shellcheck disable=SC2178 # bash before 5.1 uses entry 0 alone
    PROMPT_COMMAND=$__rr_first${__rr_plain:+$'\n'$__rr_plain}$'\n'$__rr_final
}

# "$1" without this hook, into `__rr_plain`. Where others' commands stand on both sides, or join
# it with more than `;`, a `:` takes its place so that the rest still parses.
__rr_without() {
    \builtin local __rr_mine __rr_head __rr_tail __rr_blank=$'*[!; \t\n]*'
    __rr_plain=$1
    for __rr_mine in "$__rr_first" "$__rr_final"; do
        while [[ $__rr_plain == *"$__rr_mine"* ]]; do
            __rr_head=${__rr_plain%%"$__rr_mine"*}
            __rr_tail=${__rr_plain#*"$__rr_mine"}
            # shellcheck disable=SC2053 # a pattern is meant
            if [[ $__rr_head != $__rr_blank ]]; then
                __rr_plain=${__rr_tail#[;$'\n']}
            elif [[ $__rr_tail != $__rr_blank && ${__rr_head%"${__rr_head##*[! $'\t']}"} == *[\;$'\n'] ]]; then
                __rr_plain=$__rr_head
            else
                __rr_plain=$__rr_head:$__rr_tail
            fi
        done
    done
}

# Puts the note-taking into PS0, unless PS0 would show it instead (`shopt -u promptvars`).
__rr_hook_ps0() {
    [[ -n $__rr_ps0 ]] || \builtin return 0
    if \builtin shopt -q promptvars; then
        __rr_timed=1
        [[ ${PS0-} == *"$__rr_ps0"* ]] || PS0=$__rr_ps0${PS0-}
    elif [[ ${PS0-} == *"$__rr_ps0"* ]]; then
        PS0=${PS0%%"$__rr_ps0"*}${PS0#*"$__rr_ps0"}
    fi
}

# --- ctrl+r ----------------------------------------------------------------------------------

# Lets the user choose with the finder and puts the choice on the line. `rr search --widget` draws
# on the terminal, prints the choice and a `.` (so that `$()` keeps its newlines), and exits 0, or
# 130 when cancelled. The line goes in by the environment, never as an argument.
__rr_widget() {
    \builtin local __rr_out __rr_ec
    if [[ ! -x $__rr_bin ]]; then
        \builtin printf 'rr: cannot run %s: install Rustory again, then open a new shell\n' "$__rr_bin" >&2
        \builtin return 0
    fi
    __rr_out=$(RUSTORY_QUERY=$READLINE_LINE RUSTORY_SESSION=$__rr_session \
        "$__rr_bin" search --widget </dev/tty) && __rr_ec=0 || __rr_ec=$?
    if ((__rr_ec == 0)) && [[ $__rr_out == *. ]]; then
        READLINE_LINE=${__rr_out%.}
        # Beyond any line: bash takes its end, whether it counts bytes or characters.
        READLINE_POINT=0x7fffffff
    fi
}

# Binds ctrl+r in every keymap, except where the user asked not to, or bash is too old to let a
# widget change the line (before 4.0: the built-in ctrl+r stays).
__rr_bind() {
    [[ -z ${RUSTORY_NO_BIND-} ]] && ((__rr_version >= 400)) || \builtin return 0
    \builtin local __rr_keymap
    for __rr_keymap in emacs-standard vi-insert vi-command; do
        \builtin bind -m "$__rr_keymap" -x '"\C-r": __rr_widget'
    done
} 2>/dev/null

# --- Loading ---------------------------------------------------------------------------------

# The time in microseconds by arithmetic within PS0, before bash 5.0 from a prompt escape in
# seconds. `[^0-9]`: a `!` would be taken for the history number under `set -o posix`.
# shellcheck disable=SC2016 # PS0 is expanded when it is used
if ((__rr_version >= 500)); then
    __rr_ps0='10#0${EPOCHREALTIME//[^0-9]/}'
elif ((__rr_version >= 404)); then
    # A count in place of what a second does not tell keeps commands in order.
    __rr_ps0='\D{%s}000000+(__rr_tick=(__rr_tick+1)%1000000)'
else
    __rr_ps0=
fi
if [[ -n $__rr_ps0 ]]; then
    # shellcheck disable=SC2016
    __rr_ps0='${__rr_session:$((__rr_t0='$__rr_ps0',__rr_t1=__rr_t1?__rr_t1:__rr_t0,__rr_n=HISTCMD,0)):0}'
    ! __rr_is_readonly PS0 || __rr_ps0=
fi

# Up to bash 5.0 PROMPT_COMMAND may be exported, and a shell without this hook inherits it: then
# the array, which never is, is empty there, and `:` runs instead.
# shellcheck disable=SC2016
if ((__rr_version >= 501)); then
    __rr_first=__rr_precmd __rr_final=__rr_ready
else
    __rr_first='"${__rr_on[1]-:}" "$_"' __rr_final='"${__rr_on[2]-:}" "$_"'
fi

# Arrays are never inherited, so this tells a shell that has loaded this from a child of one.
[[ -n ${__rr_on[2]-} ]] || __rr_new_session
__rr_on=(rustory __rr_precmd __rr_ready)
__rr_hook || \builtin printf 'rr: PROMPT_COMMAND is readonly, so commands of this shell are not recorded\n' >&2
__rr_hook_ps0
__rr_bind

fi
