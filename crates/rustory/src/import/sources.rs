//! Where histories lie on this machine.

use std::path::{Path, PathBuf};

use super::Format;

/// A history that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Source {
    pub(crate) format: Format,
    pub(crate) path: PathBuf,
}

/// Everything that `rr import auto` goes through, in this order: databases first, since they know
/// more about a command than the shells' own files, whose lines are then known.
pub(crate) fn found() -> Vec<Source> {
    let mut found: Vec<Source> = Vec::new();
    for source in candidates(&Places::of_this_user()) {
        let real = std::fs::canonicalize(&source.path).unwrap_or_else(|_| source.path.clone());
        let twice = found
            .iter()
            .any(|other| std::fs::canonicalize(&other.path).is_ok_and(|path| path == real));
        if source.path.is_file() && !twice {
            found.push(source);
        }
    }
    found
}

/// The history of one format; the error lists where it was looked for.
pub(crate) fn default_path(format: Format) -> Result<PathBuf, Vec<PathBuf>> {
    let paths: Vec<PathBuf> = candidates(&Places::of_this_user())
        .into_iter()
        .filter(|source| source.format == format)
        .map(|source| source.path)
        .collect();
    paths
        .iter()
        .find(|path| path.exists())
        .cloned()
        .ok_or(paths)
}

/// What the environment says about where things lie.
#[derive(Clone, Debug, Default)]
struct Places {
    home: PathBuf,
    xdg_data: Option<PathBuf>,
    zdotdir: Option<PathBuf>,
    histfile: Option<PathBuf>,
    atuin_db: Option<PathBuf>,
    shell: Option<PathBuf>,
}

impl Places {
    fn of_this_user() -> Places {
        let path = |name| {
            std::env::var_os(name)
                .filter(|value| !value.is_empty())
                .map(PathBuf::from)
        };
        Places {
            home: std::env::home_dir().unwrap_or_default(),
            xdg_data: path("XDG_DATA_HOME").filter(|dir| dir.is_absolute()),
            zdotdir: path("ZDOTDIR"),
            histfile: path("HISTFILE"),
            atuin_db: path("ATUIN_DB_PATH"),
            shell: path("SHELL"),
        }
    }
}

fn candidates(places: &Places) -> Vec<Source> {
    let home = &places.home;
    let data = places
        .xdg_data
        .clone()
        .unwrap_or_else(|| home.join(".local/share"));
    let zdotdir = places.zdotdir.clone().unwrap_or_else(|| home.clone());
    let histfile = places
        .histfile
        .clone()
        .map(|path| (shell_of(&path, places.shell.as_deref()), path));
    let fixed = [
        (Format::Atuin, data.join("atuin/history.db")),
        (Format::Atuin, home.join(".atuin/data/history.db")),
        (Format::Hishtory, home.join(".hishtory/.hishtory.db")),
    ];
    let files = [
        (Format::Bash, home.join(".bash_history")),
        (Format::Zsh, zdotdir.join(".zsh_history")),
        (Format::Zsh, home.join(".zsh_history")),
        (Format::Zsh, home.join(".histfile")),
        (Format::Fish, data.join("fish/fish_history")),
    ];
    let atuin_db = places.atuin_db.clone().map(|path| (Format::Atuin, path));
    atuin_db
        .into_iter()
        .chain(fixed)
        .chain(histfile)
        .chain(files)
        .map(|(format, path)| Source { format, path })
        .collect()
}

/// Whose history `$HISTFILE` is: its name tells, or its first bytes, or else the login shell.
fn shell_of(histfile: &Path, shell: Option<&Path>) -> Format {
    let name = histfile.to_string_lossy().to_lowercase();
    if name.contains("zsh") || name.ends_with(".histfile") {
        return Format::Zsh;
    }
    if name.contains("bash") {
        return Format::Bash;
    }
    let mut head = [0; 3];
    let begins_extended = std::fs::File::open(histfile)
        .and_then(|mut file| std::io::Read::read_exact(&mut file, &mut head))
        .is_ok_and(|()| head.starts_with(b": ") && head[2].is_ascii_digit());
    let login_zsh = shell.is_some_and(|shell| shell.ends_with("zsh"));
    if begins_extended || login_zsh {
        Format::Zsh
    } else {
        Format::Bash
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn databases_come_before_the_files_whose_lines_they_hold() {
        let places = Places {
            home: "/h".into(),
            histfile: Some("/h/.state/zsh/history".into()),
            xdg_data: Some("/x".into()),
            ..Places::default()
        };
        let all = candidates(&places);
        assert_eq!(all[0].path, Path::new("/x/atuin/history.db"));
        let histfile = all
            .iter()
            .position(|source| source.path.ends_with("zsh/history"));
        let last_database = all
            .iter()
            .rposition(|source| matches!(source.format, Format::Atuin | Format::Hishtory));
        assert!(histfile > last_database);
        assert_eq!(all[histfile.unwrap()].format, Format::Zsh);
        assert!(
            all.iter()
                .any(|source| source.path == Path::new("/x/fish/fish_history"))
        );
    }

    #[test]
    fn the_login_shell_tells_whose_a_nameless_histfile_is() {
        let path = Path::new("/nowhere/history");
        assert_eq!(shell_of(path, Some(Path::new("/bin/zsh"))), Format::Zsh);
        assert_eq!(shell_of(path, Some(Path::new("/bin/bash"))), Format::Bash);
    }
}
