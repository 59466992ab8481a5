//! What is known about an entry, as a line: when, where, how it ended, how long it took, on which
//! device. Both finders show it.

use bstr::{BString, ByteSlice as _};
use jiff::tz::TimeZone;
use rustory_core::Timestamp;
use unicode_width::UnicodeWidthStr as _;

use super::columns::{ago, clipped_path, harmless};
use super::details::Detail;
use super::devices::Devices;
use super::palette::Role;
use crate::when;

/// Who looks: what paths, times and devices are to them.
#[derive(Clone, Debug)]
pub(crate) struct Viewer {
    pub(crate) home: Option<BString>,
    pub(crate) now: Timestamp,
    pub(crate) zone: TimeZone,
    pub(crate) devices: Devices,
}

/// One fact of the line.
pub(crate) type Fact = (String, Role);

/// How much is said.
#[derive(Clone, Copy, Debug)]
struct Wordiness {
    when: When,
    /// That it ended well.
    success: bool,
    duration: bool,
}

#[derive(Clone, Copy, Debug)]
enum When {
    /// `2026-11-23 10:32:18 (2h ago)`
    Both,
    /// `2026-11-23 10:32:18`
    Clock,
    /// `2h ago`
    Ago,
}

/// From the most to the least.
const WORDINESS: [Wordiness; 5] = {
    let all = Wordiness {
        when: When::Both,
        success: true,
        duration: true,
    };
    let clock = Wordiness {
        when: When::Clock,
        ..all
    };
    let ago = Wordiness {
        when: When::Ago,
        ..all
    };
    let failures = Wordiness {
        success: false,
        ..ago
    };
    let least = Wordiness {
        duration: false,
        ..failures
    };
    [all, clock, ago, failures, least]
};

/// A directory is shortened to so much before anything else is left out.
const DIRECTORY_COLUMNS_MIN: usize = 14;
const BETWEEN: &str = " · ";

impl Viewer {
    pub(crate) fn new(devices: Devices) -> Viewer {
        use std::os::unix::ffi::OsStringExt as _;
        Viewer {
            home: std::env::home_dir().map(|home| home.into_os_string().into_vec().into()),
            now: crate::ctx::now(),
            zone: TimeZone::system(),
            devices,
        }
    }

    /// The facts on a rule of `width` columns, with its pieces in their order.
    pub(crate) fn rule(&self, ts: Timestamp, detail: Option<&Detail>, width: usize) -> Vec<Fact> {
        let mut rule = vec![("─".to_owned(), Role::Beside)];
        let facts = self.facts(ts, detail, width.saturating_sub("─  ─".width()));
        for (at, fact) in facts.into_iter().enumerate() {
            let before = if at == 0 { " " } else { BETWEEN };
            rule.push((before.to_owned(), Role::Beside));
            rule.push(fact);
        }
        let used: usize = rule.iter().map(|(text, _)| text.width()).sum();
        let fill = "─".repeat(width.saturating_sub(used + 1));
        rule.push((format!(" {fill}"), Role::Beside));
        rule
    }

    /// The facts that fit `width` columns with [`BETWEEN`] between them.
    fn facts(&self, ts: Timestamp, detail: Option<&Detail>, width: usize) -> Vec<Fact> {
        let Some(detail) = detail else {
            return vec![(self.when(ts, When::Both), Role::Beside)];
        };
        let directory = self.directory(detail);
        let wanted = directory.width().min(DIRECTORY_COLUMNS_MIN);
        let mut facts = Vec::new();
        for wordiness in WORDINESS {
            facts = self.without_directory(ts, detail, wordiness);
            let used: usize = facts
                .iter()
                .map(|(text, _)| text.width() + BETWEEN.width())
                .sum();
            let room = width.saturating_sub(used);
            if wanted > 0 && room >= wanted {
                let shown = clipped_path(&directory, room);
                facts.insert(1, (shown, Role::Beside));
                break;
            }
            if wanted == 0 && used <= width + BETWEEN.width() {
                break;
            }
        }
        facts
    }

    fn without_directory(&self, ts: Timestamp, detail: &Detail, say: Wordiness) -> Vec<Fact> {
        let mut facts = vec![(self.when(ts, say.when), Role::Beside)];
        match detail.exit_code {
            Some(0) if say.success => facts.push(("exit 0".to_owned(), Role::Beside)),
            Some(0) => {}
            Some(code) => facts.push((format!("exit {code}"), Role::Failed)),
            None if say.success => facts.push(("exit unknown".to_owned(), Role::Beside)),
            None => {}
        }
        if let (Some(ms), true) = (detail.duration_ms, say.duration) {
            facts.push((when::duration(ms), Role::Beside));
        }
        let device = self.devices.label(&detail.device_id, &detail.hostname);
        if !device.is_empty() {
            let role = if detail.is_foreign {
                Role::Device
            } else {
                Role::Beside
            };
            facts.push((device, role));
        }
        facts
    }

    fn when(&self, ts: Timestamp, how: When) -> String {
        let ago = ago(ts, self.now);
        let clock = || when::local(ts, &self.zone).trim_end().to_owned();
        match how {
            _ if ago.is_empty() => clock(),
            When::Both => format!("{} ({ago} ago)", clock()),
            When::Clock => clock(),
            When::Ago => format!("{ago} ago"),
        }
    }

    /// Harmless, and with `~` for the home directory.
    pub(crate) fn directory(&self, detail: &Detail) -> String {
        let below_home = self
            .home
            .as_ref()
            .filter(|home| home.len() > 1)
            .and_then(|home| {
                let rest = detail.cwd.strip_prefix(home.as_slice())?;
                (rest.is_empty() || rest.starts_with(b"/"))
                    .then(|| format!("~{}", rest.to_str_lossy()))
            });
        harmless(&below_home.unwrap_or_else(|| detail.cwd.to_str_lossy().into_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(detail: &Detail, width: usize) -> String {
        let viewer = Viewer {
            home: Some("/home/me".into()),
            now: Timestamp::from_secs(1_763_890_338 + 7_500).unwrap(),
            zone: TimeZone::UTC,
            devices: Devices::default(),
        };
        let facts = viewer.facts(detail.ts, Some(detail), width);
        let texts: Vec<String> = facts.into_iter().map(|(text, _)| text).collect();
        texts.join(BETWEEN)
    }

    fn detail(exit_code: i64) -> Detail {
        Detail {
            ts: Timestamp::from_secs(1_763_890_338).unwrap(),
            cwd: "/home/me/src/rustory".into(),
            exit_code: Some(exit_code),
            duration_ms: Some(3_200),
            device_id: "d".to_owned(),
            hostname: "desk".to_owned(),
            is_foreign: true,
        }
    }

    #[test]
    fn what_matters_most_stays_on_a_narrow_line() {
        for (width, exit_code, expect) in [
            (
                80,
                101,
                "2025-11-23 09:32:18 (2h ago) · ~/src/rustory · exit 101 · 3.2s · desk",
            ),
            (
                66,
                101,
                "2025-11-23 09:32:18 · ~/src/rustory · exit 101 · 3.2s · desk",
            ),
            (50, 101, "2h ago · ~/src/rustory · exit 101 · 3.2s · desk"),
            (38, 101, "2h ago · exit 101 · desk"),
            (40, 101, "2h ago · ~/src/rustory · exit 101 · desk"),
            (38, 0, "2h ago · ~/src/rustory · 3.2s · desk"),
        ] {
            let shown = line(&detail(exit_code), width);
            assert_eq!(shown, expect);
            assert!(shown.width() <= width);
        }
    }

    #[test]
    fn a_deep_directory_is_shortened_before_facts_are_left_out() {
        let deep = Detail {
            cwd: "/home/me/work/projects/rustory/crates/rustory".into(),
            ..detail(0)
        };
        assert_eq!(
            line(&deep, 80),
            "2025-11-23 09:32:18 (2h ago) · …/rustory/crates/rustory · exit 0 · 3.2s · desk"
        );
    }

    #[test]
    fn what_is_not_known_is_left_out() {
        let bare = Detail {
            ts: Timestamp::from_micros(5).unwrap(),
            ..Detail::default()
        };
        assert_eq!(line(&bare, 80), "(time unknown) · exit unknown");
        assert_eq!(line(&bare, 10), "(time unknown)");
    }
}
