//! The program itself: which one answers to its names, and whether its settings can be read.

use super::report::Group;
use super::{Doctor, in_shell};
use crate::settings::{Origin, Problem, config_path};

impl Doctor<'_> {
    pub(super) fn program(&self) -> Group {
        let version = env!("CARGO_PKG_VERSION");
        let mut group = Group::new(format!("rr {version}, {}", self.short(&self.own)));
        self.names(&mut group);
        self.config(&mut group);
        group
    }

    /// Debian has another `rr`: Mozilla's record-and-replay debugger.
    fn names(&self, group: &mut Group) {
        let id = "program.name";
        let other = match (self.leads_here("rr"), self.in_path("rr")) {
            (true, _) => return group.well(id, "`rr` in PATH is this program"),
            (false, None) => {
                let what = match self.leads_here("rustory") {
                    true => "`rustory` in PATH is this program; there is no `rr`",
                    false => "neither `rr` nor `rustory` is in PATH here",
                };
                group.note(id, what);
                return;
            }
            (false, Some(other)) => self.short(&other),
        };
        let why = "Debian's package `rr`, for one, is Mozilla's debugger, whose `rr record` is another command.";
        if self.leads_here("rustory") {
            let what = format!("`rr` is another program here ({other}); `rustory` is this one");
            group.note(id, what).why(why);
        } else {
            let what =
                format!("`rr` is another program here ({other}), and `rustory` is not in PATH");
            group.problem(id, what).why(why).mend(self.second_name());
        }
    }

    /// What makes `rustory` a name of this program: a link in a directory of the user's that is in
    /// PATH already, else one that is put there.
    fn second_name(&self) -> String {
        let mut own_dirs = self
            .path_var
            .iter()
            .filter(|dir| dir.starts_with(&self.home));
        let own = in_shell(&self.own);
        match own_dirs.next() {
            Some(dir) => {
                let dir = in_shell(dir);
                format!("mkdir -p {dir} && ln -s {own} {dir}/rustory")
            }
            None => format!("sudo ln -s {own} /usr/local/bin/rustory"),
        }
    }

    fn config(&self, group: &mut Group) {
        let problems = &self.ctx.settings.problems;
        for problem in problems {
            group
                .problem("program.config", problem.to_string())
                .why("Every other setting counts.")
                .mend(mend(problem));
        }
        let Some(path) = config_path().filter(|_| problems.is_empty()) else {
            return;
        };
        let what = match path.exists() {
            true => format!("configuration {}", self.short(&path)),
            false => "no configuration file; every setting is at its default".to_owned(),
        };
        group.well("program.config", what);
    }
}

fn mend(problem: &Problem) -> String {
    match &problem.origin {
        Origin::File { path, line: 0 } => format!("ls -l {}", in_shell(path)),
        Origin::File { path, line } => format!("${{EDITOR:-vi}} +{line} {}", in_shell(path)),
        Origin::Env(name) => format!("unset {name}"),
        Origin::Flag(flag) => format!("# leave out {flag}"),
    }
}
