//! Filling the finder: the newest rows before anything is painted, all others behind it.
//!
//! Reading never waits for a writer and never writes, so the finder opens beside a locked and
//! upon a read-only database. What was typed a moment ago still lies in the spool: it is read
//! from there for the first list, ingested by the loader's thread, and stays in the list from the
//! spool when that is not possible.

use std::cell::OnceCell;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use bstr::BString;
use rustory_core::IngestSeq;
use rustory_core::spool::Typed;
use rustory_store::{Access, Scan, Store, StoreError, Within};

use super::Event;
use super::corpus::{Builder, Corpus, Place};
use super::devices::Devices;
use super::matching::Wanted;
use super::scope::{Filter, Scope};
use super::tty::Waker;
use crate::ctx::Ctx;
use crate::drain;
use crate::error::CommandError;
use crate::settings::Settings;

/// Where the finder stands: what the scopes mean here.
#[derive(Clone, Debug)]
pub(crate) struct Here {
    pub(crate) hostname: String,
    pub(crate) directories: Vec<BString>,
    pub(crate) session: Option<String>,
    pub(crate) limit: usize,
}

impl Here {
    pub(crate) fn scan(&self, filter: Filter) -> Scan {
        let within = match filter.scope {
            Scope::All | Scope::Failed => Within::Everything,
            Scope::Device => Within::Device {
                hostname: self.hostname.clone(),
            },
            Scope::Directory => Within::Directory(self.directories.clone()),
            Scope::Session => Within::Session(self.session.clone().unwrap_or_default()),
        };
        Scan {
            within,
            failed: filter.is_failed_only(),
            limit: self.limit,
        }
    }
}

/// The log as the finder reads it, and what waits beside it.
#[derive(Debug)]
pub(crate) struct Source {
    ctx: Ctx,
    /// Empty until it is needed; `None` in it: there is no history yet.
    store: OnceCell<Option<Store>>,
    waiting: Arc<Vec<Typed>>,
}

impl Source {
    /// Opens the log for reading; makes it when there is none yet.
    pub(crate) fn open(ctx: &Ctx) -> Result<Source, CommandError> {
        let ctx = quiet(ctx);
        let store = open_or_make(&ctx)?;
        let waiting = match &store {
            Some(store) => drain::peek(&ctx, store).unwrap_or_default(),
            None => Vec::new(),
        };
        Ok(Source {
            ctx,
            store: OnceCell::from(store),
            waiting: Arc::new(waiting),
        })
    }

    /// The same for another thread, which opens the log when it needs it.
    pub(crate) fn another(&self) -> Source {
        Source {
            ctx: quiet(&self.ctx),
            store: OnceCell::new(),
            waiting: Arc::clone(&self.waiting),
        }
    }

    /// `None`: there is no history yet.
    pub(crate) fn store(&self) -> Result<Option<&Store>, StoreError> {
        if let Some(store) = self.store.get() {
            return Ok(store.as_ref());
        }
        let store = match Store::open(&self.ctx.settings.db_path, Access::Read, None) {
            Ok(store) => Some(store),
            Err(err) if is_missing(&err) => None,
            Err(err) => return Err(err),
        };
        Ok(self.store.get_or_init(|| store).as_ref())
    }

    pub(crate) fn settings(&self) -> &Settings {
        &self.ctx.settings
    }

    /// What can't be read is not known.
    pub(crate) fn devices(&self) -> Devices {
        match self.store() {
            Ok(Some(store)) => Devices::read(store, &self.ctx.settings),
            _ => Devices::default(),
        }
    }

    /// Closes the log, and gives its cache back, until it is needed again.
    pub(crate) fn close(&mut self) {
        self.store.take();
    }

    /// Brings the spool into the log. When that does not work now, it goes on waiting,
    /// at the places that it has.
    pub(crate) fn ingest(&mut self) {
        let settings = &self.ctx.settings;
        let opened = Store::open(
            &settings.db_path,
            Access::HASTY,
            settings.device_id.as_deref(),
        );
        let Ok(mut store) = opened else { return };
        if drain::drain(&self.ctx, &mut store).is_ok() {
            self.waiting = Arc::default();
        }
    }

    /// The command at a negative place.
    pub(crate) fn waiting(&self, place: Place) -> Option<&Typed> {
        let from_one = usize::try_from(place.checked_neg()?).ok()?;
        self.waiting.get(from_one.checked_sub(1)?)
    }

    /// The exact bytes of the command at a place.
    pub(crate) fn command(&self, place: Place) -> Option<BString> {
        if let Some(typed) = self.waiting(place) {
            return Some(typed.cmd.clone());
        }
        let entry = self.store().ok()??.entry(IngestSeq::from_rowid(place));
        Some(entry.ok()??.cmd)
    }

    /// The newest commands: at least `rows` distinct ones where there are that many close by.
    pub(crate) fn head(&self, scan: &Scan, rows: usize) -> Result<Corpus, StoreError> {
        let mut builder = self.waiting_within(scan);
        let wanted = builder.len() + rows;
        if let Some(store) = self.store()? {
            store.scan_head(scan, |row| {
                builder.add(row.seq.as_rowid(), row.ts.as_micros(), row.cmd);
                match builder.len() < wanted {
                    true => ControlFlow::Continue(()),
                    false => ControlFlow::Break(()),
                }
            })?;
        }
        Ok(builder.finish())
    }

    /// All commands. `look` is called every few thousand rows and may end it; then `None`.
    pub(crate) fn all(
        &self,
        scan: &Scan,
        mut look: impl FnMut(&Builder) -> ControlFlow<()>,
    ) -> Result<Option<Corpus>, StoreError> {
        let mut builder = self.waiting_within(scan);
        let mut rows = 0_usize;
        let mut go_on = ControlFlow::Continue(());
        if let Some(store) = self.store()? {
            store.scan(scan, |row| {
                builder.add(row.seq.as_rowid(), row.ts.as_micros(), row.cmd);
                rows += 1;
                if rows.is_multiple_of(ROWS_A_LOOK) {
                    go_on = look(&builder);
                }
                go_on
            })?;
        }
        Ok(go_on.is_continue().then(|| builder.finish()))
    }

    fn waiting_within(&self, scan: &Scan) -> Builder {
        let mut builder = Builder::default();
        for (place, typed) in (1..).zip(&*self.waiting) {
            if is_within(typed, scan) {
                let ts = typed.start.unwrap_or_else(crate::ctx::now);
                builder.add(-place, ts.as_micros(), typed.cmd.as_ref());
            }
        }
        builder
    }
}

/// Rows between two looks at the clock and at whether the load is still wanted.
const ROWS_A_LOOK: usize = 4096;

/// A note of the drain must not end up on the finder's screen.
fn quiet(ctx: &Ctx) -> Ctx {
    Ctx {
        settings: ctx.settings.clone(),
        quiet: true,
        verbose: false,
        keeps_the_screen: true,
    }
}

fn open_or_make(ctx: &Ctx) -> Result<Option<Store>, CommandError> {
    let path = &ctx.settings.db_path;
    let device_id = ctx.settings.device_id.as_deref();
    let err = match Store::open(path, Access::Read, device_id) {
        Ok(store) => return Ok(Some(store)),
        Err(err @ (StoreError::NewerSchema { .. } | StoreError::Corrupt { .. })) => {
            return Err(err.into());
        }
        Err(err) => err,
    };
    // Not there yet, or of an older schema: opening for writing helps with both.
    match Store::open(path, Access::HASTY, device_id) {
        Ok(mut store) => {
            // Nothing to search but the spool: it is worth the wait.
            let _ = drain::drain(ctx, &mut store);
            Ok(Some(store))
        }
        Err(_) if is_missing(&err) => Ok(None),
        Err(err) => Err(err.into()),
    }
}

fn is_missing(err: &StoreError) -> bool {
    matches!(err, StoreError::Io { source, .. } if source.kind() == std::io::ErrorKind::NotFound)
}

fn is_within(typed: &Typed, scan: &Scan) -> bool {
    let failed = typed.exit_code.is_some_and(|code| code != 0);
    let within = match &scan.within {
        Within::Everything | Within::Device { .. } => true,
        Within::Directory(paths) => paths.contains(&typed.cwd),
        Within::Session(session) => *session == typed.session,
    };
    within && (failed || !scan.failed)
}

/// What to load.
#[derive(Debug)]
pub(crate) struct Load {
    pub(crate) number: u64,
    pub(crate) scan: Scan,
    /// Distinct commands to show at once; 0 when they are shown already.
    pub(crate) head_rows: usize,
}

/// Starts the thread that ingests the spool and then loads what it is asked for.
pub(crate) fn start(
    source: Source,
    wanted: Arc<Wanted>,
    events: Sender<Event>,
    waker: Waker,
) -> Sender<Load> {
    let (sender, jobs) = channel();
    let mut loader = Loader {
        source,
        wanted,
        events,
        waker,
    };
    std::thread::spawn(move || loader.run(&jobs));
    sender
}

struct Loader {
    source: Source,
    wanted: Arc<Wanted>,
    events: Sender<Event>,
    waker: Waker,
}

impl Loader {
    fn run(&mut self, jobs: &Receiver<Load>) {
        let mut is_first = true;
        while let Ok(load) = jobs.recv() {
            if std::mem::take(&mut is_first) {
                self.source.ingest();
            }
            if let Err(err) = self.load(&load) {
                self.tell(Event::Failed {
                    number: load.number,
                    why: err.to_string(),
                });
            }
            self.source.close();
        }
    }

    fn load(&self, load: &Load) -> Result<(), StoreError> {
        if load.head_rows > 0 {
            let head = self.source.head(&load.scan, load.head_rows)?;
            self.loaded(load, head, false);
        }
        let mut partial = Partial::new();
        let corpus = self.source.all(&load.scan, |builder| {
            if !self.wanted.is(load.number) {
                return ControlFlow::Break(());
            }
            if partial.is_due(builder.len()) {
                self.loaded(load, builder.snapshot(), false);
            }
            ControlFlow::Continue(())
        })?;
        if let Some(corpus) = corpus {
            self.loaded(load, corpus, true);
        }
        Ok(())
    }

    fn loaded(&self, load: &Load, corpus: Corpus, complete: bool) {
        self.tell(Event::Loaded {
            number: load.number,
            corpus: Arc::new(corpus),
            complete,
        });
    }

    fn tell(&self, event: Event) {
        if self.events.send(event).is_ok() {
            self.waker.wake();
        }
    }
}

/// When loading takes longer than this (a cold disk), what came so far is shown.
const PARTIAL_AFTER: Duration = Duration::from_millis(150);

/// Decides when to show what is not all yet.
struct Partial {
    shown_at: Instant,
    shown: usize,
}

impl Partial {
    fn new() -> Partial {
        Partial {
            shown_at: Instant::now(),
            shown: 0,
        }
    }

    /// Each time twice as much as before, so that all copies together cost no more than one.
    fn is_due(&mut self, count: usize) -> bool {
        if self.shown_at.elapsed() < PARTIAL_AFTER || count < 2 * self.shown {
            return false;
        }
        self.shown_at = Instant::now();
        self.shown = count;
        true
    }
}

/// The directory we are in, as the shell names it and as the kernel does.
pub(crate) fn directories() -> Vec<BString> {
    use std::os::unix::ffi::OsStrExt as _;
    let bytes = |path: &std::path::Path| BString::from(path.as_os_str().as_bytes());
    let Ok(real) = std::env::current_dir() else {
        return Vec::new();
    };
    let mut directories = vec![bytes(&real)];
    let named = std::env::var_os("PWD").map(PathBuf::from);
    if let Some(named) = named
        && named != real
        && named.canonicalize().is_ok_and(|path| path == real)
    {
        directories.push(bytes(&named));
    }
    directories
}
