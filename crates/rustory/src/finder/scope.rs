//! What of the history is listed, and the one key that goes through it.

/// Where the commands are looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Scope {
    /// Everywhere
    All,
    /// On this device
    Device,
    /// In this directory
    Directory,
    /// In this session
    Session,
    /// Everywhere, but only what failed
    Failed,
}

impl Scope {
    /// In the order of the key.
    pub(crate) const ALL: [Scope; 5] = [
        Scope::All,
        Scope::Device,
        Scope::Directory,
        Scope::Session,
        Scope::Failed,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Scope::All => "all",
            Scope::Device => "device",
            Scope::Directory => "directory",
            Scope::Session => "session",
            Scope::Failed => "failed",
        }
    }

    /// For a sentence.
    pub(crate) fn in_words(self) -> &'static str {
        match self {
            Scope::All => "in the history",
            Scope::Device => "on this device",
            Scope::Directory => "in this directory",
            Scope::Session => "in this session",
            Scope::Failed => "of what failed",
        }
    }
}

/// A scope, and whether only what failed in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Filter {
    pub(crate) scope: Scope,
    /// Within the scope; [`Scope::Failed`] needs no saying.
    pub(crate) failed: bool,
}

impl Filter {
    /// Shells that do not record have no session.
    pub(crate) fn next_scope(&mut self, has_session: bool) {
        let mut rest = Scope::ALL.into_iter().cycle();
        rest.find(|&scope| scope == self.scope);
        let has_meaning = |scope: &Scope| has_session || *scope != Scope::Session;
        self.scope = rest.find(has_meaning).unwrap_or(Scope::All);
    }

    pub(crate) fn toggle_failed(&mut self) {
        match self.scope {
            Scope::Failed => self.scope = Scope::All,
            _ => self.failed = !self.failed,
        }
    }

    pub(crate) fn is_failed_only(self) -> bool {
        self.failed || self.scope == Scope::Failed
    }

    /// The scopes in their order, and whether each holds now.
    pub(crate) fn tabs(self, has_session: bool) -> Vec<(&'static str, bool)> {
        Scope::ALL
            .into_iter()
            .filter(|&scope| has_session || scope != Scope::Session)
            .map(|scope| {
                let holds = match scope {
                    Scope::Failed => self.is_failed_only(),
                    other => other == self.scope,
                };
                (scope.name(), holds)
            })
            .collect()
    }

    /// The tabs on a line, those that hold in brackets; each takes the same room either way.
    pub(crate) fn tabs_line(self, has_session: bool) -> String {
        let tabs = self.tabs(has_session).into_iter();
        tabs.map(|(name, holds)| match holds {
            true => format!("[{name}]"),
            false => format!(" {name} "),
        })
        .collect()
    }

    /// Those that hold, for where there is no room for all.
    pub(crate) fn held_line(self) -> String {
        let held = self.tabs(true).into_iter().filter(|&(_, holds)| holds);
        held.map(|(name, _)| format!("[{name}]")).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round(has_session: bool, steps: usize) -> Vec<String> {
        let mut filter = Filter {
            scope: Scope::All,
            failed: false,
        };
        let mut lines = Vec::new();
        for _ in 0..steps {
            filter.next_scope(has_session);
            lines.push(filter.held_line());
        }
        lines
    }

    #[test]
    fn the_key_goes_round_and_leaves_out_a_session_that_is_none() {
        let all = ["[device]", "[directory]", "[session]", "[failed]", "[all]"];
        assert_eq!(round(true, 5), all);
        let none = ["[device]", "[directory]", "[failed]", "[all]"];
        assert_eq!(round(false, 4), none);
    }

    #[test]
    fn failed_only_holds_beside_a_scope_or_alone() {
        let mut filter = Filter {
            scope: Scope::Directory,
            failed: false,
        };
        filter.toggle_failed();
        assert_eq!(
            filter.tabs_line(true),
            " all  device [directory] session [failed]"
        );
        filter.next_scope(true);
        filter.next_scope(true);
        assert_eq!((filter.scope, filter.failed), (Scope::Failed, true));
        filter.toggle_failed();
        assert_eq!(filter.scope, Scope::All);
    }
}
