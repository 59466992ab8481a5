//! What fzf's commands are answered: lists of other scopes, and previews.
//!
//! fzf starts `rr fzf-ask ...`, which connects to a socket in a directory that only this user can
//! enter, writes its request as one line, and copies the answer to its stdout. The state, which is
//! the scope and the open log, stays in one process.

use std::collections::HashSet;
use std::io::{self, BufRead as _, BufReader, BufWriter, Read as _, Write};
use std::net::Shutdown;
use std::ops::ControlFlow;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bstr::{BStr, BString};
use rustory_core::Timestamp;
use tempfile::TempDir;
use unicode_width::UnicodeWidthStr as _;

use crate::finder::columns::ago;
use crate::finder::corpus::{Corpus, Place};
use crate::finder::facts::Viewer;
use crate::finder::load::{Here, Source};
use crate::finder::palette::Palette;
use crate::finder::scope::Filter;
use crate::finder::{Options, details, tty};
use crate::text::{Breaks, visible};

/// Names the socket to the commands.
pub(super) const SOCKET: &str = "RUSTORY_FZF_SOCKET";
/// Distinct commands that are written before all others are loaded.
const HEAD_ROWS: usize = 1_000;
/// A request is a word or three.
const REQUEST_BYTES_MAX: u64 = 256;
/// More of a command fits no preview.
const PREVIEW_BYTES_MAX: usize = 64 * 1024;
/// In front of a header fzf leaves two columns free, behind it two more and its scrollbar.
const FZF_MARGIN: usize = 5;
/// Where fzf does not say how wide the preview is.
const PREVIEW_COLUMNS: usize = 80;

/// The state of one search.
#[derive(Debug)]
pub(super) struct Answers {
    source: Mutex<Source>,
    here: Here,
    viewer: Viewer,
    palette: Palette,
    filter: Mutex<Filter>,
    /// Lists begun: one that is not the last is wanted no longer.
    lists: AtomicU64,
}

impl Answers {
    pub(super) fn new(source: Source, options: &Options) -> Answers {
        Answers {
            viewer: Viewer::new(source.devices()),
            palette: Palette::new(source.settings().theme),
            source: Mutex::new(source),
            here: options.here.clone(),
            filter: Mutex::new(options.filter),
            lists: AtomicU64::new(0),
        }
    }

    pub(super) fn has_colour(&self) -> bool {
        self.palette.has_colour()
    }

    /// Lines of a list that are above it and not of it.
    pub(super) fn header_lines(&self) -> usize {
        1 + usize::from(!self.viewer.devices.is_empty())
    }

    /// The exact bytes of what was picked.
    pub(super) fn command(&self, place: Place) -> Option<BString> {
        self.source().command(place)
    }

    /// The list that fzf starts with. Then the spool is taken in, and what is missing follows.
    pub(super) fn feed_first(&self, out: impl Write) {
        // EPIPE, the only error that a pipe has, says that fzf has ended.
        let _ = self.list(out, true);
    }

    fn source(&self) -> MutexGuard<'_, Source> {
        self.source.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn filter(&self) -> MutexGuard<'_, Filter> {
        self.filter.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn list(&self, out: impl Write, is_first: bool) -> io::Result<()> {
        let list = self.lists.fetch_add(1, Ordering::Relaxed) + 1;
        let filter = *self.filter();
        let scan = self.here.scan(filter);
        let mut source = self.source().another();
        let mut out = BufWriter::with_capacity(64 * 1024, out);
        self.write_header(&mut out, filter)?;
        let Ok(head) = source.head(&scan, HEAD_ROWS) else {
            return out.flush();
        };
        self.write_all(&mut out, &head, |_| true)?;
        out.flush()?;
        if is_first {
            source.ingest();
        }
        let loaded = source.all(&scan, |_| {
            match self.lists.load(Ordering::Relaxed) == list {
                true => ControlFlow::Continue(()),
                false => ControlFlow::Break(()),
            }
        });
        let Ok(Some(all)) = loaded else {
            return Ok(());
        };
        let known: HashSet<&str> = (0..)
            .take(head.len())
            .map(|index| head.text(index))
            .collect();
        self.write_all(&mut out, &all, |text| !known.contains(text))?;
        out.flush()
    }

    /// Now; the terminal may have been resized.
    fn header_columns(&self) -> usize {
        let columns = tty::open().map_or(PREVIEW_COLUMNS, |terminal| {
            usize::from(tty::size(&terminal).0)
        });
        columns.saturating_sub(FZF_MARGIN)
    }

    fn write_header(&self, out: &mut impl Write, filter: Filter) -> io::Result<()> {
        let columns = self.header_columns();
        let tabs = filter.tabs_line(self.here.session.is_some());
        let all = format!("ctrl-r {tabs} · ctrl-o keys");
        let line = match all.width() <= columns {
            true => all,
            false => format!("ctrl-r {} · ctrl-o keys", filter.held_line()),
        };
        write!(out, "\t{line}\t\0")?;
        if self.header_lines() > 1 {
            let known = self.viewer.devices.line(self.viewer.now, columns);
            write!(out, "\t{known}\t\0")?;
        }
        Ok(())
    }

    fn write_all(
        &self,
        out: &mut impl Write,
        corpus: &Corpus,
        wanted: impl Fn(&str) -> bool,
    ) -> io::Result<()> {
        for index in 0..u32::try_from(corpus.len()).unwrap_or(u32::MAX) {
            let text = corpus.text(index);
            if wanted(text) {
                let ts = Timestamp::from_micros(corpus.ts(index)).unwrap_or_default();
                let ago = ago(ts, self.viewer.now);
                let shown = shown(text.into());
                write!(out, "{}\t{shown}\t{ago:>4}\t\0", corpus.place(index))?;
            }
        }
        Ok(())
    }

    fn preview(&self, place: Place, columns: usize) -> Option<String> {
        let source = self.source();
        let detail = details::detail(&source, place)?;
        let mut command = source.command(place)?;
        drop(source);
        command.truncate(PREVIEW_BYTES_MAX);
        let paint = |role, text: &str| self.palette.ansi(role, text);
        // A full line would be followed by an empty one; older ones take off one column more.
        let rule = self
            .viewer
            .rule(detail.ts, Some(&detail), columns.saturating_sub(2));
        let rule: String = rule.iter().map(|(text, role)| paint(*role, text)).collect();
        Some(format!("{rule}\n{}", shown(command.as_ref())))
    }

    fn answer(&self, stream: UnixStream) -> io::Result<()> {
        let mut request = String::new();
        BufReader::new(&stream)
            .take(REQUEST_BYTES_MAX)
            .read_line(&mut request)?;
        let words: Vec<&str> = request.split_whitespace().collect();
        match words[..] {
            // Newer ones tell every command how wide the preview is.
            ["scope", ..] => {
                self.filter().next_scope(self.here.session.is_some());
                self.list(stream, false)
            }
            ["failed", ..] => {
                self.filter().toggle_failed();
                self.list(stream, false)
            }
            ["preview", place, ref rest @ ..] => {
                let columns = rest.first().and_then(|columns| columns.parse().ok());
                let columns = columns.unwrap_or(PREVIEW_COLUMNS);
                let preview = place
                    .parse()
                    .ok()
                    .and_then(|place| self.preview(place, columns));
                (&stream).write_all(preview.unwrap_or_default().as_bytes())
            }
            _ => Ok(()),
        }
    }
}

/// Harmless, on one field: tabs are what separates them.
fn shown(text: &BStr) -> String {
    visible(text, Breaks::Keep).replace('\t', "    ")
}

/// Where answers are given; the directory goes with it.
#[derive(Debug)]
pub(super) struct Served {
    path: PathBuf,
    _dir: TempDir,
}

impl Served {
    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

/// Answers on threads of their own, until the process ends.
pub(super) fn serve(answers: &Arc<Answers>) -> io::Result<Served> {
    let mut builder = tempfile::Builder::new();
    builder.prefix("rustory-");
    let dir = match std::env::var_os("XDG_RUNTIME_DIR").map(|dir| builder.tempdir_in(dir)) {
        Some(Ok(dir)) => dir,
        _ => builder.tempdir()?,
    };
    let path = dir.path().join("fzf");
    let listener = UnixListener::bind(&path)?;
    let answers = Arc::clone(answers);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let answers = Arc::clone(&answers);
            // Whoever asked and went away wants no answer.
            std::thread::spawn(move || answers.answer(stream).ok());
        }
    });
    Ok(Served { path, _dir: dir })
}

/// Asks, and prints the answer.
pub(super) fn ask(request: &str) -> io::Result<()> {
    let socket = std::env::var_os(SOCKET).ok_or_else(|| io::Error::other("no finder is open"))?;
    let mut stream = UnixStream::connect(socket)?;
    let columns = std::env::var("FZF_PREVIEW_COLUMNS").unwrap_or_default();
    writeln!(stream, "{request} {columns}")?;
    stream.shutdown(Shutdown::Write)?;
    io::copy(&mut stream, &mut io::stdout().lock()).map(drop)
}
