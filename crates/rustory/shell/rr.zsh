# Rustory's hook for zsh 5.1 and later: `eval "$(rr init zsh)"` in ~/.zshrc.
#
# It appends what was typed to this shell's spool file, with builtins alone: no process, no
# database, no waiting. Everything else happens when `rr` reads the spool. README.md beside this
# file says what may be relied on; the record format is in rustory-core's `spool.rs`.
#
# preexec writes that a command starts, precmd that it has ended, so a command whose terminal dies
# is kept too. Names begin with `__rr_` and are not exported. Builtins are called as
# `\builtin name`, since aliases and functions may carry their names. All code stands in functions
# that begin with `emulate`, since the user's options may change what it means.

if [[ -o interactive ]]; then

\builtin typeset -g __rr_bin=@RR@ __rr_dir=@SPOOL@

# --- What runs around every command ------------------------------------------------------------

# In: the line as typed. It is empty where zsh keeps no history.
__rr_preexec() {
    \builtin emulate -L zsh -o no_err_exit -o no_err_return -o no_unset -o no_xtrace
    # A blank in front is the user's way to say "not this one"; what HISTORY_IGNORE keeps out of
    # the history file stays out of here too.
    [[ -n $1 && $1 != [[:blank:]]* && ${RUSTORY_RECORD-} != 0 ]] || \builtin return 0
    [[ -z ${HISTORY_IGNORE-} || $1 != ${~HISTORY_IGNORE} ]] || \builtin return 0
    [[ -s $__rr_spool ]] || __rr_create || \builtin return 0
    __rr_now
    __rr_t0=$REPLY
    __rr_append S1 "$__rr_session" "$__rr_t0" "$PWD" "=${1//$'\0'/}"
    __rr_running=1
}

__rr_precmd() {
    \builtin local -i __rr_status=$?
    \builtin emulate -L zsh -o no_err_exit -o no_err_return -o no_unset -o no_xtrace
    __rr_ended $__rr_status
}

# Appends the end of the command that runs, if one does.
__rr_ended() {
    (( __rr_running )) || \builtin return 0
    __rr_running=0
    \builtin local REPLY ms=''
    __rr_now
    [[ -z $REPLY || -z $__rr_t0 ]] || (( (ms = (REPLY - __rr_t0) / 1000) >= 0 )) || ms=''
    __rr_append E1 "$__rr_session" "$ms" "$1"
}

# Microseconds since 1970 into REPLY; empty where zsh has no clock. `epochtime` has no decimal
# point, which the locale could change.
__rr_now() {
    \builtin local -a now
    now=(${epochtime-})
    REPLY=''
    (( $#now == 2 )) && REPLY=$(( now[1] * 1000000 + now[2] / 1000 ))
}

# Appends one record: kind and fields.
__rr_append() {
    # Two pairs of braces: zsh tells on the outer stderr what it cannot open.
    {
        {
            \builtin print -rn -- $'\0\x1e'"${(pj:\0:)@}"$'\0\x1f'
        } >>| $__rr_spool
    } 2>/dev/null
}

# --- The spool file ----------------------------------------------------------------------------

# Creates this shell's spool file, readable by its owner alone. The one fork: at load time, and
# when the file has vanished; where that fails, it is tried again after ten seconds.
__rr_create() {
    [[ -d $__rr_dir ]] || \builtin return 1
    (( SECONDS >= __rr_retry || SECONDS < __rr_retry - 10 )) || \builtin return 1
    (
        \builtin umask 077
        __rr_append H1 "$__rr_session" zsh "$ZSH_VERSION" $$ "$HOST"
    ) && \builtin return 0
    (( __rr_retry = SECONDS + 10 ))
    \builtin return 1
}

# --- ctrl+r ------------------------------------------------------------------------------------

# Lets the user choose with the finder and puts the choice on the line. `rr search --widget` draws
# on the terminal, prints the choice and a `.` (so that `$()` keeps its newlines), and exits 0, or
# 130 when cancelled. The line goes in by the environment, never as an argument. What it says when
# it fails comes back in place of the choice.
__rr_widget() {
    \builtin emulate -L zsh -o no_err_exit -o no_err_return -o no_unset -o no_xtrace
    \builtin local out said
    \builtin local -i ret
    if [[ ! -x $__rr_bin ]]; then
        \builtin zle -M "rr: cannot run $__rr_bin: install Rustory again, then open a new shell"
        \builtin return 0
    fi
    out=$(
        {
            said=$(RUSTORY_QUERY=$BUFFER RUSTORY_SESSION=$__rr_session \
                $__rr_bin search --widget 2>&1 >&3 3>&- </dev/tty)
            ret=$?
        } 3>&1
        (( ret == 0 )) || \builtin print -rn -- "$said"
        \builtin exit $ret
    )
    ret=$?
    \builtin zle reset-prompt
    if (( ret == 0 )) && [[ $out == *. ]]; then
        BUFFER=${out%.}
        CURSOR=$#BUFFER
    elif (( ret != 130 )) && [[ -n $out ]]; then
        \builtin zle -M "$out"
    fi
    \builtin return 0
}

# --- Loading -----------------------------------------------------------------------------------

__rr_load() {
    \builtin emulate -L zsh -o no_err_exit -o no_err_return -o no_unset -o no_xtrace
    \builtin zmodload -F zsh/datetime p:epochtime 2>/dev/null
    # Arrays are never inherited, so this tells a shell that has loaded this from a child of one.
    [[ -n ${__rr_on[2]-} ]] || __rr_new_session
    \builtin typeset -ga __rr_on precmd_functions preexec_functions
    __rr_on=(rustory loaded)
    # First, so that durations do not hold the time that other hooks take.
    precmd_functions=(__rr_precmd ${precmd_functions:#__rr_precmd})
    preexec_functions=(${preexec_functions:#__rr_preexec} __rr_preexec)
    [[ -n ${RUSTORY_NO_BIND-} ]] || __rr_bind
}

# The clock and the process id make the session's name; two shells of one tick differ by RANDOM.
__rr_new_session() {
    \builtin typeset -g +x __rr_session __rr_spool __rr_t0=''
    \builtin typeset -gi +x __rr_running=0 __rr_retry=0
    \builtin local REPLY
    __rr_now
    __rr_session=$(( [##16] ${REPLY:-0} ))-$(( [##16] $$ ))-$(( [##16] RANDOM * 32768 + RANDOM ))
    __rr_spool=$__rr_dir/$__rr_session.spool
    __rr_create
}

# Binds ctrl+r in every keymap.
__rr_bind() {
    \builtin local keymap
    \builtin zle -N rustory-search __rr_widget
    for keymap in emacs viins vicmd; do
        \builtin bindkey -M $keymap '^R' rustory-search
    done
}

__rr_load
\builtin unset -f __rr_load __rr_new_session __rr_bind

fi
