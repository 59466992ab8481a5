//! The user's own fzf as the finder: fed newest first, while it runs.
//!
//! - fzf gets `number TAB command NUL` and shows what is behind the number, so that the command can
//!   be made harmless for the screen and its exact bytes are still found again.
//! - What is typed already goes to it in `FZF_DEFAULT_OPTS`, behind the user's own options: anyone
//!   on the machine can read an argument list, nobody else the environment.
//! - Only options that every fzf of the last years knows: asking for its version costs a process.
//! - Whoever picks early closes the pipe. That is no error.

use std::collections::HashSet;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, BufWriter, Read as _, Write as _};
use std::ops::ControlFlow;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use bstr::{BString, ByteSlice as _};
use rustory_store::Scan;

use super::corpus::Corpus;
use super::load::Source;
use super::{Options, no_terminal, tty};
use crate::ctx::Ctx;
use crate::error::CommandError;
use crate::text::{Breaks, visible};

/// In front of the user's own options, which may say otherwise: as in fzf's own ctrl+r.
const DEFAULTS: &str = "--height=40% --bind=ctrl-r:toggle-sort,ctrl-z:ignore";
/// Behind them: without these the numbers would show, or several could be chosen.
const ARGUMENTS: [&str; 7] = [
    "--read0",
    "--print0",
    "--no-multi",
    "--tiebreak=index",
    "--delimiter=\t",
    "--with-nth=2..",
    "--no-print-query",
];
/// Distinct commands that are written before all others are loaded.
const HEAD_ROWS: usize = 1_000;

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
    let mut child = match start(options, terminal) {
        Ok(child) => child,
        Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(Outcome::Missing),
        Err(err) => return Err(CommandError::failed(format!("starting fzf: {err}"))),
    };
    let fed = feed_and_wait(ctx, options, &mut child);
    if fed.is_err() {
        // It would wait for input that never comes.
        let _ = child.kill();
        let _ = child.wait();
    }
    fed
}

fn start(options: &Options, terminal: File) -> io::Result<Child> {
    Command::new("fzf")
        .args(ARGUMENTS)
        .env("FZF_DEFAULT_OPTS", environment(&options.query))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        // It draws on stderr, which may go elsewhere.
        .stderr(terminal)
        .spawn()
}

/// The user's options between our defaults and what is typed already.
fn environment(query: &str) -> OsString {
    let mut all = OsString::from(DEFAULTS);
    for name in ["FZF_DEFAULT_OPTS", "FZF_CTRL_R_OPTS"] {
        if let Some(own) = std::env::var_os(name) {
            all.push(" ");
            all.push(own);
        }
    }
    all.push(" --query=");
    all.push(quoted(query));
    all
}

/// For fzf's reading of its options, which is a shell's.
fn quoted(query: &str) -> String {
    let clean: String = query
        .chars()
        .map(|char| if char.is_control() { ' ' } else { char })
        .collect();
    format!("'{}'", clean.replace('\'', r"'\''"))
}

/// What the numbers stand for: first those of the head, then those of everything.
#[derive(Debug, Default)]
struct Sent {
    head: Arc<Corpus>,
    all: Arc<Corpus>,
}

impl Sent {
    fn command(&self, source: &Source, number: usize) -> Option<BString> {
        let (corpus, index) = match number.checked_sub(self.head.len()) {
            None => (&self.head, number),
            Some(index) if index < self.all.len() => (&self.all, index),
            Some(_) => return None,
        };
        let index = u32::try_from(index).ok()?;
        match corpus.exact(index) {
            Some(text) => Some(text.into()),
            None => source.command(corpus.place(index)),
        }
    }
}

fn feed_and_wait(ctx: &Ctx, options: &Options, child: &mut Child) -> Result<Outcome, CommandError> {
    let source = Source::open(ctx)?;
    let scan = options.here.scan(options.scope, options.failed);
    let sent = Arc::new(Mutex::new(Sent::default()));
    if let Some(stdin) = child.stdin.take() {
        let feeder = Feeder {
            source: source.another(),
            scan,
            sent: Arc::clone(&sent),
        };
        // Not waited for: who picks early does not care for the rest.
        std::thread::spawn(move || feeder.feed(stdin));
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
        Some(0) => {
            let sent = sent.lock().unwrap_or_else(PoisonError::into_inner);
            let number = number(&output);
            Ok(number
                .and_then(|number| sent.command(&source, number))
                .map_or(Outcome::Cancelled, Outcome::Picked))
        }
        // Nothing matches; cancelled.
        Some(1 | 130) => Ok(Outcome::Cancelled),
        _ => Err(CommandError::failed(format!("fzf ended with {status}"))
            .hint("`--finder builtin`, or the setting `finder = \"builtin\"`, does without fzf")),
    }
}

/// The number before the chosen line; options of the user's may print more before it.
fn number(output: &[u8]) -> Option<usize> {
    let line = output
        .rsplit(|&byte| byte == 0)
        .find(|line| !line.is_empty())?;
    let (number, _) = line.split_once_str("\t")?;
    number.to_str().ok()?.parse().ok()
}

/// Writes everything to fzf.
struct Feeder {
    source: Source,
    scan: Scan,
    sent: Arc<Mutex<Sent>>,
}

impl Feeder {
    fn feed(mut self, stdin: ChildStdin) {
        let mut out = BufWriter::with_capacity(64 * 1024, stdin);
        let Ok(head) = self.source.head(&self.scan, HEAD_ROWS) else {
            return;
        };
        let head = Arc::new(head);
        self.publish(|sent| sent.head = Arc::clone(&head));
        let written = write_all(&mut out, &head, 0, |_| true).and_then(|()| out.flush());
        if written.is_err() {
            return;
        }
        self.source.ingest();
        let loaded = self.source.all(&self.scan, |_| ControlFlow::Continue(()));
        let Ok(Some(all)) = loaded else { return };
        let all = Arc::new(all);
        self.publish(|sent| sent.all = Arc::clone(&all));
        let known: HashSet<&str> = (0..)
            .take(head.len())
            .map(|index| head.text(index))
            .collect();
        // EPIPE, the only error that a pipe has, says that fzf has ended.
        let _ = write_all(&mut out, &all, head.len(), |text| !known.contains(text))
            .and_then(|()| out.flush());
    }

    fn publish(&self, change: impl FnOnce(&mut Sent)) {
        change(&mut self.sent.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

fn write_all(
    out: &mut impl io::Write,
    corpus: &Corpus,
    first_number: usize,
    wanted: impl Fn(&str) -> bool,
) -> io::Result<()> {
    for index in 0..corpus.len() {
        let text = corpus.text(u32::try_from(index).unwrap_or(u32::MAX));
        if wanted(text) {
            let shown = visible(text.into(), Breaks::Keep);
            write!(out, "{}\t{shown}\0", first_number + index)?;
        }
    }
    Ok(())
}
