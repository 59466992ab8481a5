# What `rr doctor` asks of a zsh at its prompt, after the user's own rc files. It types one line that
# begins with a blank, under hist_ignore_space, and reads this file. Answers go to a file as pairs of
# name and value, each ended by NUL. The shell is killed afterwards, so there is no next prompt, no
# exit trap, and no history to save; nothing here has to be put back.

# Whether zsh has put the line that reads this into the user's history all the same: an rc file may
# turn hist_ignore_space off again.
__rrd_kept=''
[[ -n ${HISTFILE-} && $options[histignorespace] == off ]] &&
    [[ $options[sharehistory] == on || $options[incappendhistory] == on ]] && __rrd_kept=$HISTFILE
\builtin unset HISTFILE

__rrd_say() {
    \builtin print -rn -- "$1"$'\0'"$2"$'\0' >>| @REPORT@
}

# Takes rr.zsh through one command after another, beside an empty one, and says what the one took
# more than the other, in microseconds. Records go to a file of this probe.
__rrd_measure() {
    \builtin local -a took a b c
    \builtin local -i i
    [[ -n ${__rr_on[2]-} && -n ${epochtime-} ]] || \builtin return 0
    __rr_dir=@DIR@ __rr_spool=@SPOOL@ __rr_retry=0
    __rr_create || \builtin return 0
    for (( i = 0; i < 101; i++ )); do
        a=($epochtime)
        __rrd_nothing
        __rrd_nothing
        b=($epochtime)
        __rr_preexec ': rr doctor' ': rr doctor' ': rr doctor'
        __rr_precmd
        c=($epochtime)
        took+=($(( ((c[1] - b[1]) * 1000000000 + c[2] - b[2] - (b[1] - a[1]) * 1000000000 - b[2] + a[2]) / 1000 )))
    done
    __rrd_say took "$took"
}
__rrd_nothing() { : }

__rrd_all() {
    \builtin emulate -L zsh -o no_unset
    __rrd_say version "$ZSH_VERSION"
    __rrd_say loaded "${__rr_on[2]-}"
    __rrd_say bin "${__rr_bin-}"
    __rrd_say dir "${__rr_dir-}"
    __rrd_say spool "${__rr_spool-}"
    __rrd_say precmd "${(F)precmd_functions-}"
    __rrd_say preexec "${(F)preexec_functions-}"
    __rrd_say kept "$__rrd_kept"
    __rrd_say histsize "${HISTSIZE-}"
    __rrd_say no_bind "${RUSTORY_NO_BIND-}"
    __rrd_say ctrl_r "$(\builtin bindkey '^R')"
    __rrd_say widget "${widgets[rustory-search]-}"
    __rrd_say vi_mode "${ZVM_VERSION-}"
    __rrd_say rr_type "${$(\builtin whence -w rr)#*: }"
    __rrd_say rr_path "$(\builtin whence -p rr)"
    __rrd_measure
    __rrd_say end ''
}
__rrd_all 2>/dev/null
\builtin read -r __rrd_wait
\builtin kill -KILL $$
