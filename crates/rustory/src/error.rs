//! The one place that gives an error its kind, its hint and its exit code.

use std::process::ExitCode;

use rustory_store::StoreError;

/// Why a command did not do what it was asked to.
#[derive(Debug)]
pub(crate) struct CommandError {
    kind: Kind,
    message: String,
    hint: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// It was tried and did not work: exit code 1.
    Failed,
    /// What was asked makes no sense: exit code 2, as clap's own.
    Usage,
    /// The user changed their mind: exit code 130, nothing printed.
    Cancelled,
}

impl CommandError {
    pub(crate) fn failed(message: impl std::fmt::Display) -> CommandError {
        Self::new(Kind::Failed, message)
    }

    pub(crate) fn usage(message: impl std::fmt::Display) -> CommandError {
        Self::new(Kind::Usage, message)
    }

    pub(crate) fn cancelled() -> CommandError {
        Self::new(Kind::Cancelled, "cancelled")
    }

    /// What happened, without what to do about it.
    pub(crate) fn message(&self) -> &str {
        &self.message
    }

    /// What to do next, if there is something.
    pub(crate) fn hinted(&self) -> Option<&str> {
        self.hint.as_deref()
    }

    /// Whether it is the user who wanted it so.
    pub(crate) fn is_cancelled(&self) -> bool {
        self.kind == Kind::Cancelled
    }

    /// Adds what to do next.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> CommandError {
        self.hint = Some(hint.into());
        self
    }

    fn new(kind: Kind, message: impl std::fmt::Display) -> CommandError {
        CommandError {
            kind,
            message: message.to_string(),
            hint: None,
        }
    }
}

impl From<StoreError> for CommandError {
    fn from(err: StoreError) -> Self {
        let hint = match &err {
            StoreError::Busy => "another rr is writing for long; try again in a moment".to_owned(),
            StoreError::ReadOnly { path } => format!(
                "check the owner and the permissions of `{}` and of its directory; commands wait in \
                 the spool meanwhile",
                path.display()
            ),
            StoreError::Full { .. } => {
                "free some space; commands already in the spool are ingested afterwards".to_owned()
            }
            StoreError::NewerSchema { .. } => {
                "this rr is older than the one that wrote it: install the newer one here too \
                 (nothing was changed)"
                    .to_owned()
            }
            StoreError::Corrupt { path, .. } => {
                let path = path.display();
                format!(
                    "nothing was changed. Rescue what is readable with `sqlite3 {path} .recover | \
                     sqlite3 new.db`, or move it away: other devices send what they have, and new \
                     commands wait in the spool"
                )
            }
            StoreError::Io { .. } | StoreError::Sqlite { .. } => {
                return CommandError::failed(err);
            }
        };
        CommandError::failed(err).hint(hint)
    }
}

/// Says what happened on stderr.
pub(crate) fn complain(err: &CommandError) {
    if err.kind != Kind::Cancelled {
        crate::ui::complain(&err.message, err.hint.as_deref());
    }
}

/// Says what happened on stderr and gives the exit code.
pub(crate) fn report(err: &CommandError) -> ExitCode {
    complain(err);
    match err.kind {
        Kind::Failed => ExitCode::from(1),
        Kind::Usage => ExitCode::from(2),
        Kind::Cancelled => ExitCode::from(130),
    }
}
