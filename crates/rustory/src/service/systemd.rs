//! The systemd user unit.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::{ServiceError, config_home};

/// What the unit is called.
pub(super) const NAME: &str = "rustory.service";

/// Where units of a user's own lie.
pub(super) fn path() -> Option<PathBuf> {
    let config = match config_home() {
        Some(home) => home,
        None => std::env::home_dir()?.join(".config"),
    };
    Some(config.join("systemd/user").join(NAME))
}

pub(super) fn systemctl() -> Command {
    let mut command = Command::new("systemctl");
    command.arg("--user");
    command
}

/// Whether a manager of this user answers, and if not, why that may be.
pub(super) fn is_there() -> Result<(), ServiceError> {
    let no = |why: &str| Err(ServiceError::NoManager(why.to_owned()));
    // Without it systemctl finds no manager, or, worse, that of somebody else.
    if std::env::var_os("XDG_RUNTIME_DIR").is_none() {
        return match Path::new("/run/systemd/system").exists() {
            true => no(
                "there is no session of systemd (XDG_RUNTIME_DIR is not set): log in as this user, and not through su or sudo",
            ),
            false => no(not_running()),
        };
    }
    let asked = systemctl()
        .arg("show-environment")
        .stdin(Stdio::null())
        .output();
    match asked {
        Ok(output) if output.status.success() => Ok(()),
        Ok(_) => no(not_running()),
        Err(_) => no("systemd is not installed"),
    }
}

fn not_running() -> &'static str {
    let version = std::fs::read_to_string("/proc/version").unwrap_or_default();
    match version.to_lowercase().contains("microsoft") {
        true => {
            "systemd does not run in this WSL (`systemd=true` under `[boot]` in /etc/wsl.conf turns it on)"
        }
        false => "systemd does not run here, as in a container",
    }
}

/// The unit. No more of a sandbox than a program can have that writes below the home directory and
/// opens ports: what is here costs nothing and was tried.
pub(super) fn unit(program: &Path, config_home: Option<&Path>) -> String {
    let program = quoted(&program.to_string_lossy());
    let environment = config_home.map_or_else(String::new, |home| {
        let setting = quoted(&format!("XDG_CONFIG_HOME={}", home.display()));
        format!("Environment={setting}\n")
    });
    format!(
        "# Written by `rr service install`; `rr service uninstall` takes it away.\n\
         [Unit]\n\
         Description=Rustory: brings shell history to your other devices\n\
         \n\
         [Service]\n\
         Type=exec\n\
         ExecStart={program} daemon\n\
         ExecReload=/bin/kill -USR1 $MAINPID\n\
         {environment}\
         Restart=on-failure\n\
         RestartSec=30\n\
         # Wrong settings don't mend themselves.\n\
         RestartPreventExitStatus=2\n\
         UMask=0077\n\
         NoNewPrivileges=yes\n\
         LockPersonality=yes\n\
         MemoryDenyWriteExecute=yes\n\
         RestrictRealtime=yes\n\
         RestrictSUIDSGID=yes\n\
         SystemCallArchitectures=native\n\
         \n\
         [Install]\n\
         WantedBy=default.target\n"
    )
}

/// As systemd reads it: specifiers and variables are its own.
fn quoted(text: &str) -> String {
    let mut written = String::from("\"");
    for char in text.chars() {
        match char {
            '"' | '\\' => written.extend(['\\', char]),
            '%' | '$' => written.extend([char, char]),
            char => written.push(char),
        }
    }
    written.push('"');
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_unit_starts_this_very_program_whatever_its_path() {
        let unit = unit(Path::new("/home/m n/50%/$x/rr"), Some(Path::new("/c d")));
        assert!(
            unit.contains("\nExecStart=\"/home/m n/50%%/$$x/rr\" daemon\n"),
            "{unit}"
        );
        assert!(
            unit.contains("\nEnvironment=\"XDG_CONFIG_HOME=/c d\"\n"),
            "{unit}"
        );
    }

    /// systemd's own check ends well whatever it finds: anything that it says counts.
    #[test]
    fn systemd_finds_nothing_wrong_with_the_unit() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join(NAME);
        for config in [None, Some(Path::new("/tmp/with space"))] {
            std::fs::write(&file, unit(Path::new("/bin/true"), config)).unwrap();
            let checked = Command::new("systemd-analyze")
                .args(["--user", "--man=no", "verify"])
                .arg(&file)
                .env("XDG_RUNTIME_DIR", dir.path())
                .output();
            let Ok(checked) = checked else {
                eprintln!("SKIPPED, needs systemd-analyze");
                return;
            };
            let said = String::from_utf8_lossy(&checked.stderr).into_owned();
            let about_it: Vec<_> = said.lines().filter(|line| line.contains(NAME)).collect();
            assert!(checked.status.success() && about_it.is_empty(), "{said}");
        }
    }
}
