//! The launchd agent of macOS.

use std::path::{Path, PathBuf};

/// What the agent is called.
const LABEL: &str = "com.github.rustory";

/// Where agents of a user's own lie.
pub(super) fn path() -> Option<PathBuf> {
    let agents = std::env::home_dir()?.join("Library/LaunchAgents");
    Some(agents.join(format!("{LABEL}.plist")))
}

/// The session of this user's desktop.
pub(super) fn domain() -> String {
    format!("gui/{}", rustix::process::getuid().as_raw())
}

/// The agent in it.
pub(super) fn target() -> String {
    format!("{}/{LABEL}", domain())
}

/// The agent's property list.
pub(super) fn agent(program: &Path, config_home: Option<&Path>, log: &Path) -> String {
    let text = |path: &Path| escaped(&path.to_string_lossy());
    let (program, log) = (text(program), text(log));
    let environment = config_home.map_or_else(String::new, |home| {
        let home = text(home);
        format!(
            "  <key>EnvironmentVariables</key>\n  <dict>\n    \
             <key>XDG_CONFIG_HOME</key>\n    <string>{home}</string>\n  </dict>\n"
        )
    });
    format!(
        r#"<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE plist PUBLIC "-//Apple//DTD PLIST 1.0//EN" "http://www.apple.com/DTDs/PropertyList-1.0.dtd">
<!-- Written by `rr service install`; `rr service uninstall` takes it away. -->
<plist version="1.0">
<dict>
  <key>Label</key>
  <string>{LABEL}</string>
  <key>ProgramArguments</key>
  <array>
    <string>{program}</string>
    <string>daemon</string>
  </array>
{environment}  <key>RunAtLoad</key>
  <true/>
  <key>KeepAlive</key>
  <dict>
    <key>SuccessfulExit</key>
    <false/>
  </dict>
  <key>ThrottleInterval</key>
  <integer>30</integer>
  <key>ProcessType</key>
  <string>Background</string>
  <key>Umask</key>
  <integer>63</integer>
  <key>StandardOutPath</key>
  <string>{log}</string>
  <key>StandardErrorPath</key>
  <string>{log}</string>
</dict>
</plist>
"#
    )
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::process::{Command, Stdio};

    use super::*;

    /// Python's reader is strict, unlike others; the keys are those of launchd.plist(5).
    const CHECK: &str = r#"
import plistlib, sys
agent = plistlib.loads(sys.stdin.buffer.read())
known = {"Label", "ProgramArguments", "EnvironmentVariables", "RunAtLoad", "KeepAlive",
         "ThrottleInterval", "ProcessType", "Umask", "StandardOutPath", "StandardErrorPath"}
assert set(agent) <= known, set(agent) - known
assert agent["ProgramArguments"] == ["/a & b/<rr>", "daemon"], agent
assert agent["KeepAlive"] == {"SuccessfulExit": False} and agent["RunAtLoad"] is True
assert agent["Umask"] == 0o077
assert agent.get("EnvironmentVariables", {}).get("XDG_CONFIG_HOME", "/c") == "/c"
"#;

    #[test]
    fn the_agent_is_a_property_list_that_starts_this_very_program() {
        for config in [None, Some(Path::new("/c"))] {
            let text = agent(Path::new("/a & b/<rr>"), config, Path::new("/log"));
            let mut python = Command::new("python3")
                .args(["-c", CHECK])
                .stdin(Stdio::piped())
                .spawn()
                .expect("python3 is there: scripts/test sees to it");
            let mut stdin = python.stdin.take().unwrap();
            stdin.write_all(text.as_bytes()).unwrap();
            drop(stdin);
            assert!(python.wait().unwrap().success(), "{text}");
        }
    }
}
