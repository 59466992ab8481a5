//! Which files load the hook, for which shell, and with which lines.

use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use bstr::ByteSlice as _;
use clap::ValueEnum as _;

use crate::cmd::init::Shell;

/// One file that is to load the hook.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) shell: Shell,
    pub(crate) path: PathBuf,
}

/// The shells to set up: those that are installed, or whose rc file is there.
pub(crate) fn installed(home: &Path, path_var: &[PathBuf]) -> Vec<Shell> {
    Shell::value_variants()
        .iter()
        .copied()
        .filter(|shell| {
            let program = shell.name();
            let installed = path_var.iter().any(|dir| dir.join(program).is_file());
            let has_rc = match shell {
                Shell::Fish => fish_config(home).exists(),
                _ => home.join(format!(".{program}rc")).exists(),
            };
            installed || has_rc
        })
        .collect()
}

/// The files in which a shell's hook belongs.
///
/// A login bash (ssh, tmux, a console) reads only the first of three files and not `.bashrc`;
/// where that one does not read `.bashrc` itself, as Debian's does, the hook goes there as well.
pub(crate) fn targets(shell: Shell, home: &Path, zdotdir: Option<&Path>) -> Vec<Target> {
    let target = |path| Target { shell, path };
    match shell {
        Shell::Zsh => vec![target(zdotdir.unwrap_or(home).join(".zshrc"))],
        Shell::Fish => vec![target(fish_config(home))],
        Shell::Bash => {
            let mut targets = vec![target(home.join(".bashrc"))];
            targets.extend(login_file(home).map(target));
            targets
        }
    }
}

/// Read by every fish, and after the files of `conf.d`, so that the hook has the last word.
fn fish_config(home: &Path) -> PathBuf {
    std::env::var_os("XDG_CONFIG_HOME")
        .map(PathBuf::from)
        .filter(|dir| dir.is_absolute())
        .unwrap_or_else(|| home.join(".config"))
        .join("fish/config.fish")
}

fn login_file(home: &Path) -> Option<PathBuf> {
    let found = [".bash_profile", ".bash_login", ".profile"]
        .map(|name| home.join(name))
        .into_iter()
        .find(|path| path.exists());
    match found {
        None => Some(home.join(".profile")),
        Some(path) => {
            let text = std::fs::read(&path).unwrap_or_default();
            let reads_bashrc = text.lines().any(|line| {
                let line = line.trim_ascii_start();
                !line.starts_with(b"#") && line.contains_str(".bashrc")
            });
            (!reads_bashrc).then_some(path)
        }
    }
}

/// The lines of the block: quiet where `rr` is gone, and harmless for other shells that read the
/// same file (`.profile`).
pub(crate) fn body(shell: Shell, rr: &Path, db_path: Option<&Path>) -> String {
    let text = |path: &Path| shell.quoted(path).to_str_lossy().into_owned();
    let (program, dir) = (text(rr), text(rr.parent().unwrap_or(Path::new("/"))));
    let option = db_path.map_or_else(String::new, |path| format!(" --db-path {}", text(path)));
    let variable = match shell {
        Shell::Bash => "BASH_VERSION",
        Shell::Zsh => "ZSH_VERSION",
        Shell::Fish => {
            return format!(
                "if test -x {program}\n    \
                 contains -- {dir} $PATH; or set -gx PATH $PATH {dir}\n    \
                 {program}{option} init fish | source\n\
                 end\n"
            );
        }
    };
    format!(
        "if [ -n \"${{{variable}-}}\" ] && [ -x {program} ]; then\n    \
         case \":$PATH:\" in *:{dir}:*) ;; *) PATH=\"$PATH\":{dir} ;; esac\n    \
         eval \"$({program}{option} init {})\"\n\
         fi\n",
        shell.name()
    )
}

/// Another program called `rr` that comes first in PATH: Mozilla's debugger, on Debian.
pub(crate) fn name_clash(rr: &Path, path_var: &[PathBuf]) -> Option<PathBuf> {
    let first = path_var
        .iter()
        .map(|dir| dir.join("rr"))
        .find(|path| path.is_file())?;
    let same = std::fs::canonicalize(&first).ok() == std::fs::canonicalize(rr).ok();
    (!same && first.as_os_str().as_bytes() != rr.as_os_str().as_bytes()).then_some(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(files: &[(&str, &str)]) -> Vec<String> {
        let home = tempfile::tempdir().unwrap();
        for (name, text) in files {
            std::fs::write(home.path().join(name), text).unwrap();
        }
        targets(Shell::Bash, home.path(), None)
            .iter()
            .map(|target| {
                target
                    .path
                    .file_name()
                    .unwrap()
                    .to_string_lossy()
                    .into_owned()
            })
            .collect()
    }

    #[test]
    fn a_login_bash_loads_the_hook_too() {
        let reads = ". ~/.bashrc\n";
        assert_eq!(names(&[]), [".bashrc", ".profile"]);
        assert_eq!(names(&[(".profile", reads)]), [".bashrc"]);
        assert_eq!(
            names(&[(".profile", "# . ~/.bashrc\n")]),
            [".bashrc", ".profile"]
        );
        assert_eq!(
            names(&[(".profile", reads), (".bash_profile", "")]),
            [".bashrc", ".bash_profile"]
        );
        assert_eq!(
            names(&[(".bash_login", reads), (".profile", "")]),
            [".bashrc"]
        );
    }

    #[test]
    fn paths_in_the_block_are_quoted_for_fish() {
        let body = body(Shell::Fish, Path::new(r"/it's\here/rr"), None);
        assert!(
            body.contains(r"'/it\'s\\here/rr' init fish | source"),
            "{body}"
        );
    }

    #[test]
    fn paths_in_the_block_are_quoted_for_the_shell() {
        let body = body(
            Shell::Zsh,
            Path::new("/it's here/rr"),
            Some(Path::new("/d b/h.db")),
        );
        assert!(
            body.contains(r#"eval "$('/it'\''s here/rr' --db-path '/d b/h.db' init zsh)""#),
            "{body}"
        );
    }
}
