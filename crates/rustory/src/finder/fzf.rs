//! The user's own fzf as the finder: fed newest first, while it runs.
//!
//! - fzf gets `place TAB command TAB age TAB NUL` and shows age and command, so that the command can be
//!   made harmless for the screen and its exact bytes are still found again.
//! - Scopes and the preview are commands that fzf starts: small processes that ask this one, which
//!   has the log open and knows the scope ([`answers`]).
//! - What is typed already goes to it in `FZF_DEFAULT_OPTS`, behind the user's own options: anyone
//!   on the machine can read an argument list, nobody else the environment.
//! - Only options that fzf has had since 0.20 (2019): asking for its version costs a process.
//! - Whoever picks early closes the pipe. That is no error.

mod answers;

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use bstr::{BString, ByteSlice as _};

use super::corpus::Place;
use super::help::{self, Of};
use super::load::Source;
use super::{Options, no_terminal, tty, unreadable};
use crate::ctx::Ctx;
use crate::error::CommandError;
use crate::settings::Theme;
use answers::{Answers, SOCKET, Served};

/// In front of the user's own options, which may say otherwise: as in fzf's own ctrl+r.
const DEFAULTS: &str = "--height=60% --min-height=18 --bind=ctrl-z:ignore";
/// Behind them: without these the places would show, or several could be chosen.
const ARGUMENTS: [&str; 8] = [
    "--read0",
    "--print0",
    "--no-multi",
    "--tiebreak=index",
    "--delimiter=\t",
    "--with-nth=3,2",
    "--nth=2",
    "--no-print-query",
];
/// The program that fzf's commands start. In a variable, whatever signs its path has.
const PROGRAM: &str = "RUSTORY_RR";
/// Keys that the user's own options may give another meaning.
const KEYS: &str = "--bind='ctrl-o:execute(\"$RUSTORY_RR\" fzf-ask keys)' \
    --bind='f1:execute(\"$RUSTORY_RR\" fzf-ask keys)' \
    --bind=ctrl-v:toggle-preview,ctrl-s:toggle-sort";
/// What ctrl+r is for; a preview of files, as many have it among their options, is not.
const SCOPES: &str = "--bind='ctrl-r:reload(\"$RUSTORY_RR\" fzf-ask scope)' \
    --bind='ctrl-t:reload(\"$RUSTORY_RR\" fzf-ask failed)' \
    --preview='\"$RUSTORY_RR\" fzf-ask preview {1}'";
/// On a screen of fewer rows, the preview comes only when it is asked for.
const PREVIEW_ROWS_MIN: u16 = 16;

/// How fzf ended.
#[derive(Debug)]
pub(super) enum Outcome {
    Picked(BString),
    Cancelled,
    /// There is no fzf in PATH.
    Missing,
}

/// Runs fzf until something is picked, or not.
pub(super) fn run(ctx: &Ctx, options: &Options) -> Result<Outcome, CommandError> {
    let terminal = tty::open().map_err(|_| no_terminal())?;
    let rows = tty::size(&terminal).1;
    // What the options say depends on the log, so it is opened first: that takes a millisecond.
    let answers = Arc::new(Answers::new(Source::open(ctx)?, options));
    let served = answers::serve(&answers).ok();
    let environment = environment(
        &answers,
        ctx.settings.theme,
        &options.query,
        served.as_ref(),
        rows,
    );
    let mut child = match start(&answers, environment, served.as_ref(), terminal) {
        Ok(child) => child,
        Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(Outcome::Missing),
        Err(err) => return Err(CommandError::failed(format!("starting fzf: {err}"))),
    };
    let ended = feed_and_wait(&answers, &mut child);
    if ended.is_err() {
        // It would wait for input that never comes.
        let _ = child.kill();
        let _ = child.wait();
    }
    ended
}

fn start(
    answers: &Answers,
    options: OsString,
    served: Option<&Served>,
    terminal: File,
) -> io::Result<Child> {
    let mut command = Command::new("fzf");
    if let Some(served) = served {
        command.env(SOCKET, served.path());
        command.env(PROGRAM, std::env::current_exe()?);
    }
    command
        .args(ARGUMENTS)
        .arg(format!("--header-lines={}", answers.header_lines()))
        .env("FZF_DEFAULT_OPTS", options)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        // It draws on stderr, which may go elsewhere.
        .stderr(terminal)
        .spawn()
}

/// The user's options between our defaults and what is typed already. Those for ctrl+r go last.
fn environment(
    answers: &Answers,
    theme: Theme,
    query: &str,
    served: Option<&Served>,
    rows: u16,
) -> OsString {
    let mut all = OsString::from(DEFAULTS);
    all.push(match theme {
        _ if !answers.has_colour() => " --no-color",
        Theme::Dark => " --color=dark",
        Theme::Light => " --color=light",
        // As the user's fzf looks anyway.
        Theme::Auto => "",
    });
    let mut add = |options: OsString| {
        all.push(" ");
        all.push(options);
    };
    if served.is_some() {
        add(KEYS.into());
    }
    add(own("FZF_DEFAULT_OPTS"));
    if served.is_some() {
        add(SCOPES.into());
        let hidden = if rows < PREVIEW_ROWS_MIN {
            ":hidden"
        } else {
            ""
        };
        add(format!("--preview-window=down:4:wrap:noborder{hidden}").into());
    }
    add(of_ctrl_r(own("FZF_CTRL_R_OPTS")));
    add(format!("--query={}", quoted(query)).into());
    all
}

fn own(name: &str) -> OsString {
    std::env::var_os(name).unwrap_or_default()
}

/// In fzf's own ctrl+r everything from the second field on is the command; here it is that field.
fn of_ctrl_r(options: OsString) -> OsString {
    match options.to_str() {
        Some(text) => text.replace("2..}", "2}").into(),
        None => options,
    }
}

/// For fzf's reading of its options, which is a shell's.
fn quoted(query: &str) -> String {
    let clean: String = query
        .chars()
        .map(|char| if char.is_control() { ' ' } else { char })
        .collect();
    format!("'{}'", clean.replace('\'', r"'\''"))
}

fn feed_and_wait(answers: &Arc<Answers>, child: &mut Child) -> Result<Outcome, CommandError> {
    if let Some(stdin) = child.stdin.take() {
        let answers = Arc::clone(answers);
        // Not waited for: who picks early does not care for the rest.
        std::thread::spawn(move || answers.feed_first(stdin));
    }
    let mut output = Vec::new();
    if let Some(stdout) = &mut child.stdout {
        stdout
            .read_to_end(&mut output)
            .map_err(|err| CommandError::failed(format!("reading from fzf: {err}")))?;
    }
    let status = child
        .wait()
        .map_err(|err| CommandError::failed(format!("waiting for fzf: {err}")))?;
    match status.code() {
        Some(0) => match place(&output) {
            Some(place) => answers
                .command(place)
                .map(Outcome::Picked)
                .ok_or_else(unreadable),
            None => Ok(Outcome::Cancelled),
        },
        // Nothing matches; cancelled.
        Some(1 | 130) => Ok(Outcome::Cancelled),
        _ => Err(CommandError::failed(format!("fzf ended with {status}"))
            .hint("`--finder builtin`, or the setting `finder = \"builtin\"`, does without fzf")),
    }
}

/// The place before the chosen line; options of the user's may print more before it.
fn place(output: &[u8]) -> Option<Place> {
    let line = output
        .rsplit(|&byte| byte == 0)
        .find(|line| !line.is_empty())?;
    let (place, _) = line.split_once_str("\t")?;
    place.to_str().ok()?.parse().ok()
}

/// What a command that fzf started prints: `scope`, `failed`, `preview PLACE`, `keys`.
pub(crate) fn ask(request: &[String]) -> Result<(), CommandError> {
    let done = match request {
        [word] if word == "keys" => show_keys(),
        words => answers::ask(&words.join(" ")),
    };
    match done {
        // fzf wants something else by now.
        Err(err) if err.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        done => done.map_err(|err| {
            CommandError::failed(format!("asking the finder: {err}"))
                .hint("this command is for fzf, which `rr search` starts")
        }),
    }
}

fn show_keys() -> io::Result<()> {
    let mut terminal = tty::open()?;
    let (columns, _) = tty::size(&terminal);
    let mut text = String::from("\x1b[H\x1b[2J");
    for (key, what) in help::lines(Of::Fzf, usize::from(columns)) {
        text.push_str(&format!("{key}{what}\r\n"));
    }
    text.push_str("  any key: back");
    terminal.write_all(text.as_bytes())?;
    tty::wait_for_key(&terminal)
}
