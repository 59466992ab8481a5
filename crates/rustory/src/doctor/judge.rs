//! What the answers of a shell mean: where its hook is, who has displaced it, whose ctrl+r is.

use std::path::Path;

use super::report::Group;
use super::shell::{Asked, in_quotes};
use super::{Doctor, in_shell};
use crate::text::{Breaks, visible};

pub(super) fn bash(doctor: &Doctor<'_>, asked: &Asked, group: &mut Group) {
    let (first, last, hooks) = (
        asked.get("first"),
        asked.get("final"),
        asked.get("prompt_command"),
    );
    let flags = asked
        .get("prompt_command_flags")
        .split(' ')
        .nth(1)
        .unwrap_or_default();
    if hooks.contains(first) && hooks.contains(last) {
        group.well("shell.hook", "the hook is loaded and in PROMPT_COMMAND");
    } else if flags.contains('r') {
        group
            .problem(
                "shell.hook",
                "PROMPT_COMMAND is read-only: the hook can't get in, and nothing is kept",
            )
            .why("Load the hook before the line that makes it so.")
            .mend(format!(
                "grep -n 'readonly\\|declare -r' {} /etc/bash.bashrc /etc/profile",
                in_shell(&asked.rc)
            ));
    } else {
        let culprit = doctor.culprit(asked, "PROMPT_COMMAND");
        group
            .problem("shell.hook", format!("PROMPT_COMMAND was overwritten{culprit}: nothing is kept"))
            .why("Something sets it after the hook was loaded. Load the hook behind it, or add to PROMPT_COMMAND there instead.")
            .mend(doctor.load_last(asked));
    }
    let options = asked.get("shellopts").split(':');
    if !options.clone().any(|it| it == "history") || asked.get("histsize") == "0" {
        let (what, line) = match asked.get("histsize") {
            "0" => ("HISTSIZE is 0", "HISTSIZE=10000"),
            _ => ("`set +o history` is in force", "set -o history"),
        };
        group
            .problem(
                "shell.history",
                format!("{what}: bash keeps no history, so the hook sees no commands"),
            )
            .why("bash tells hooks what was typed only through its own list.")
            .mend(format!(
                "echo {} >> {}",
                in_quotes(line),
                in_shell(&asked.rc)
            ));
    }
    if asked.get("timed") == "0" && is_since(asked.get("version"), (4, 4)) {
        group
            .note("shell.timed", "start and duration are not known there")
            .why("PS0 is read-only, or `promptvars` is off.")
            .mend(format!(
                "echo 'shopt -s promptvars' >> {}",
                in_shell(&asked.rc)
            ));
    }
    if !asked.get("blesh").is_empty() {
        let what = format!("ble.sh {} edits the line there", asked.get("blesh"));
        group
            .note("shell.blesh", what)
            .why("It has keys of its own, which doctor can't ask for.");
    } else if is_since(asked.get("version"), (4, 0)) {
        doctor.ctrl_r(group, asked, &bound_in_bash(asked.get("binds")));
    }
    if let Some(command) = trap_command(asked.get("debug_trap")) {
        let by = match asked.get("preexec").is_empty() {
            true => format!("`{command}`"),
            false => "bash-preexec".to_owned(),
        };
        group.well(
            "shell.debug_trap",
            format!("the DEBUG trap is taken by {by}; the hook needs none"),
        );
    }
}

pub(super) fn zsh(doctor: &Doctor<'_>, asked: &Asked, group: &mut Group) {
    let (before, after) = (
        asked.has_line("preexec", "__rr_preexec"),
        asked.has_line("precmd", "__rr_precmd"),
    );
    let (variable, what) = match (before, after) {
        (true, true) => ("", ""),
        (false, _) => ("preexec_functions", "nothing is kept"),
        (true, false) => ("precmd_functions", "exit codes and durations are not known"),
    };
    if variable.is_empty() {
        group.well(
            "shell.hook",
            "the hook is loaded, in precmd_functions and preexec_functions",
        );
    } else {
        let culprit = doctor.culprit(asked, variable);
        group
            .problem("shell.hook", format!("{variable} was overwritten{culprit}: {what}"))
            .why("Something sets it after the hook was loaded. Load the hook behind it, or use add-zsh-hook there.")
            .mend(doctor.load_last(asked));
    }
    if !asked.get("kept").is_empty() {
        let history = Path::new(asked.get("kept"));
        group
            .note("shell.kept", format!("one line of doctor's is in {} now", doctor.short(history)))
            .why("Your rc file turns hist_ignore_space off, under which zsh was started, and has each line written at once.")
            .mend(format!("sed -i '/rr-doctor-.*ask$/d' {}", in_shell(history)));
    }
    let bound = asked
        .get("ctrl_r")
        .split(' ')
        .nth(1)
        .unwrap_or_default()
        .to_owned();
    let bound = if bound == "undefined-key" {
        String::new()
    } else {
        bound
    };
    doctor.ctrl_r(group, asked, &bound);
}

pub(super) fn fish(doctor: &Doctor<'_>, asked: &Asked, group: &mut Group) {
    match (asked.get("preexec"), asked.get("postexec")) {
        ("yes", "yes") => group.well(
            "shell.hook",
            "the hook is loaded, for fish_preexec and fish_postexec",
        ),
        (before, _) => {
            let what = match before {
                "yes" => "exit codes and durations are not known",
                _ => "nothing is kept",
            };
            group
                .problem(
                    "shell.hook",
                    format!("a function of the hook was erased: {what}"),
                )
                .why("Something does that after the hook was loaded. Load the hook behind it.")
                .mend(doctor.load_last(asked));
        }
    }
    if !asked.get("history").is_empty() || !asked.get("private").is_empty() {
        group
            .note(
                "shell.history",
                "fish is told to keep no history there, and the hook keeps none either",
            )
            .why("A private mode, or an empty `fish_history`.");
    }
    let bound = asked.get("ctrl_r").rsplit(' ').next().unwrap_or_default();
    doctor.ctrl_r(group, asked, bound);
}

/// What `\C-r` does, from the lists that bash prints: commands first, then macros, then functions.
fn bound_in_bash(binds: &str) -> String {
    let bound = binds
        .lines()
        .find_map(|line| line.strip_prefix("\"\\C-r\": "));
    bound.unwrap_or_default().trim_matches('"').to_owned()
}

/// The command in `trap -- 'command' DEBUG`.
fn trap_command(listed: &str) -> Option<String> {
    let command = listed.strip_prefix("trap -- '")?.strip_suffix("' DEBUG")?;
    let line = visible(command.into(), Breaks::Mark);
    Some(line.chars().take(40).collect())
}

fn is_since(version: &str, least: (u32, u32)) -> bool {
    let mut numbers = version.split('.').map(|part| part.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= least
}

/// Who is behind a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Whose {
    Ours,
    Shell,
    Known(&'static str),
    Unknown,
}

fn whose_widget(bound: &str) -> Whose {
    let known = [
        "fzf", "atuin", "mcfly", "hstr", "hishtory", "resh", "skim", "peco", "percol",
    ];
    match bound {
        "__rr_widget" | "rustory-search" => Whose::Ours,
        "reverse-search-history" | "history-pager" => Whose::Shell,
        _ if bound.starts_with("history-incremental-") => Whose::Shell,
        _ => known
            .into_iter()
            .find(|name| bound.contains(name))
            .map_or(Whose::Unknown, Whose::Known),
    }
}

impl Doctor<'_> {
    fn ctrl_r(&self, group: &mut Group, asked: &Asked, bound: &str) {
        let id = "shell.ctrl_r";
        let whose = whose_widget(bound);
        if whose == Whose::Ours {
            return group.well(id, "ctrl+r opens the finder");
        }
        if !asked.get("no_bind").is_empty() {
            return group.well(id, "ctrl+r is left alone, as RUSTORY_NO_BIND says");
        }
        let what = match whose {
            Whose::Shell | Whose::Ours => "ctrl+r is the shell's own search".to_owned(),
            Whose::Known(name) => format!("ctrl+r opens {name}'s search (`{bound}`)"),
            Whose::Unknown if bound.is_empty() => "ctrl+r is bound to nothing".to_owned(),
            Whose::Unknown => format!("ctrl+r is bound to something else (`{bound}`)"),
        };
        group
            .problem(id, what)
            .why("It was bound after the hook was loaded. Load the hook last, or set RUSTORY_NO_BIND=1 before it if that is meant.")
            .mend(self.load_last(asked));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whose_ctrl_r_is_from_what_bash_prints_in_any_version() {
        for (listed, bound) in [
            (
                "\"\\C-r\": \"__rr_widget\"\n\"\\C-t\": \"fzf-file-widget\"",
                "__rr_widget",
            ),
            ("\"\\C-r\": __fzf_history__", "__fzf_history__"),
            (
                "\"\\C-l\": clear-screen\n\"\\C-r\": reverse-search-history",
                "reverse-search-history",
            ),
            ("", ""),
        ] {
            assert_eq!(bound_in_bash(listed), bound);
        }
        assert_eq!(whose_widget("__rr_widget"), Whose::Ours);
        assert_eq!(whose_widget("fzf-history-widget"), Whose::Known("fzf"));
        assert_eq!(whose_widget("_atuin_search_widget"), Whose::Known("atuin"));
        assert_eq!(
            whose_widget("history-incremental-search-backward"),
            Whose::Shell
        );
    }
}
