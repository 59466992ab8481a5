//! The built-in finder's state and its loop: keys and events in, frames out.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{self, BufWriter, Write as _};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use bstr::BString;
use ratatui::backend::CrosstermBackend;
use ratatui::layout::Rect;
use ratatui::{Terminal, TerminalOptions, Viewport};

use super::columns;
use super::corpus::{Corpus, Place};
use super::details::{self, Detail};
use super::facts::Viewer;
use super::keys::{Decoder, Key};
use super::line::Line;
use super::load::{self, Load, Source};
use super::matching::{Matches, Wanted};
use super::palette::Palette;
use super::query::Query;
use super::scope::Filter;
use super::search::{self, Ask, Found};
use super::tty::{CLEAR, Tty, Wake};
use super::view::{self, Preview};
use super::{Event, Options};
use crate::error::CommandError;

/// An escape that nothing follows for this long was the key itself.
const ESCAPE_ALONE_AFTER: Duration = Duration::from_millis(40);
/// How long keys wait for an Enter before them that can't be answered yet.
const PICK_PATIENCE: Duration = Duration::from_secs(1);
/// At least this many distinct commands are read before the first frame.
const HEAD_ROWS_MIN: usize = 64;
/// Bytes of a paste or of keys typed ahead that are taken in before the next frame.
const BYTES_A_FRAME: usize = 4096;

/// Runs the finder until something is picked, or not.
pub(super) fn run(source: Source, options: Options) -> Result<Option<BString>, CommandError> {
    let mut tty = Tty::open(options.widget).map_err(terminal_error)?;
    let mut screen = Screen::new(&tty).map_err(terminal_error)?;
    let mut app = App::new(source, options, &tty)?;
    let outcome = app.work(&mut tty, &mut screen).map_err(terminal_error);
    drop(tty);
    match outcome? {
        Outcome::Picked(command) => Ok(Some(command)),
        Outcome::Cancelled => Ok(None),
        Outcome::Signal(signal) => {
            super::tty::die_of(signal);
            Ok(None)
        }
        Outcome::Failed(why) => Err(why),
    }
}

fn terminal_error(err: io::Error) -> CommandError {
    CommandError::failed(format!("the terminal: {err}"))
}

/// How it ended.
#[derive(Debug)]
enum Outcome {
    Picked(BString),
    Cancelled,
    Signal(i32),
    Failed(CommandError),
}

/// What is drawn on.
struct Screen(Terminal<CrosstermBackend<BufWriter<File>>>);

impl Screen {
    fn new(tty: &Tty) -> io::Result<Screen> {
        let out = BufWriter::with_capacity(16 * 1024, tty.writer()?);
        let options = TerminalOptions {
            // Fixed: the size is the terminal's own affair, and asked for when a signal says so.
            viewport: Viewport::Fixed(area(tty)),
        };
        Terminal::with_options(CrosstermBackend::new(out), options).map(Screen)
    }

    fn resize(&mut self, tty: &Tty) -> io::Result<()> {
        // Not ratatui's own clearing, which would ask the terminal on stdin where the cursor is.
        tty.clear()?;
        *self = Screen::new(tty)?;
        Ok(())
    }

    fn draw(&mut self, app: &mut App) -> io::Result<()> {
        if std::mem::take(&mut app.repaint) {
            self.0.backend_mut().write_all(CLEAR.as_bytes())?;
            self.0.swap_buffers();
        }
        let drawn = self.0.draw(|frame| view::draw(app, frame))?;
        let cells = &drawn.buffer.content;
        app.repaint = cells
            .iter()
            .any(|cell| columns::is_of_uncertain_width(cell.symbol()));
        Ok(())
    }
}

fn area(tty: &Tty) -> Rect {
    let (cols, rows) = tty.size();
    Rect::new(0, 0, cols, rows)
}

/// What the finder knows and shows.
pub(super) struct App {
    source: Source,
    options: Options,
    pub(super) palette: Palette,
    pub(super) viewer: Viewer,

    pub(super) line: Line,
    pub(super) filter: Filter,
    pub(super) preview: Preview,
    /// The keys are shown, from this line on.
    pub(super) help: Option<usize>,
    /// What is on the screen may not be what was drawn.
    repaint: bool,

    /// What there is to search, as far as it is loaded.
    corpus: Arc<Corpus>,
    complete: bool,
    /// Why there is not more to search.
    pub(super) trouble: Option<String>,
    load: u64,
    loads: Sender<Load>,
    load_wanted: Arc<Wanted>,

    /// What is shown: of the last search that was answered.
    pub(super) shown: Found,
    search: u64,
    searches: Sender<Ask>,
    search_wanted: Arc<Wanted>,

    /// Counted from the best.
    pub(super) selected: usize,
    /// The best one on the screen.
    pub(super) first_row: usize,
    pub(super) list_rows: usize,
    /// Enter was pressed before its search was answered.
    pick_wanted: bool,
    /// And since then, no other key is read.
    pick_patiently: bool,

    pub(super) details: HashMap<Place, Detail>,
    asked: HashSet<Place>,
    lookups: Sender<Vec<Place>>,
    events: Receiver<Event>,
}

impl App {
    fn new(source: Source, options: Options, tty: &Tty) -> Result<App, CommandError> {
        let (events_in, events) = channel();
        let (_, rows) = tty.size();
        let scan = options.here.scan(options.filter);
        let corpus = Arc::new(source.head(&scan, HEAD_ROWS_MIN.max(usize::from(rows)))?);
        let (load_wanted, search_wanted) =
            (Arc::new(Wanted::default()), Arc::new(Wanted::default()));
        let mut app = App {
            loads: load::start(
                source.another(),
                Arc::clone(&load_wanted),
                events_in.clone(),
                tty.waker(),
            ),
            searches: search::start(Arc::clone(&search_wanted), events_in.clone(), tty.waker()),
            lookups: details::start(source.another(), events_in, tty.waker()),
            events,
            load: 0,
            load_wanted,
            search: 0,
            search_wanted,
            palette: Palette::new(source.settings().theme),
            viewer: Viewer::new(source.devices()),
            line: Line::new(&options.query),
            filter: options.filter,
            preview: Preview::default(),
            help: None,
            repaint: false,
            shown: Found {
                number: 0,
                corpus: Arc::clone(&corpus),
                query: Query::default(),
                matches: Arc::new(Matches::everything(&corpus)),
            },
            corpus,
            complete: false,
            trouble: None,
            selected: 0,
            first_row: 0,
            list_rows: 1,
            pick_wanted: false,
            pick_patiently: false,
            details: HashMap::new(),
            asked: HashSet::new(),
            source,
            options,
        };
        app.search_head();
        Ok(app)
    }

    /// Few rows are searched on the spot, so that the first frame is already right.
    fn search_head(&mut self) {
        let query = Query::parse(self.line.text());
        self.search_wanted.set(self.search);
        let found =
            super::matching::find(&self.corpus, &query, None, &self.search_wanted, self.search);
        if let Some(matches) = found {
            self.shown = Found {
                number: self.search,
                corpus: Arc::clone(&self.corpus),
                query,
                matches: Arc::new(matches),
            };
        }
    }

    fn work(&mut self, tty: &mut Tty, screen: &mut Screen) -> io::Result<Outcome> {
        let (_, rows) = tty.size();
        self.look_up_first(usize::from(rows));
        screen.draw(self)?;
        self.start_load(0);
        let mut decoder = Decoder::default();
        loop {
            if let Some(outcome) = self.turn(tty, screen, &mut decoder)? {
                return Ok(outcome);
            }
            screen.draw(self)?;
            self.look_up_visible();
        }
    }

    /// Waits for something to happen, and takes in whatever has happened with it.
    fn turn(
        &mut self,
        tty: &mut Tty,
        screen: &mut Screen,
        decoder: &mut Decoder,
    ) -> io::Result<Option<Outcome>> {
        let mut timeout = decoder.is_waiting().then_some(ESCAPE_ALONE_AFTER);
        for _ in 0..BYTES_A_FRAME {
            if self.pick_wanted && self.pick_patiently {
                return self.await_pick(tty, screen);
            }
            let outcome = match tty.wait(timeout, true)? {
                Wake::Byte(byte) => decoder.push(byte).and_then(|key| self.key(&key)),
                Wake::TimedOut if timeout == Some(Duration::ZERO) => break,
                Wake::TimedOut => decoder.time_out().and_then(|key| self.key(&key)),
                Wake::Woken => self.take_events(),
                Wake::Resized => {
                    screen.resize(tty)?;
                    None
                }
                Wake::Closed => Some(Outcome::Cancelled),
                Wake::Signal(signal) => Some(Outcome::Signal(signal)),
            };
            if outcome.is_some() {
                return Ok(outcome);
            }
            timeout = Some(Duration::ZERO);
        }
        Ok(None)
    }

    /// Enter was pressed: what is typed behind it is the shell's, so no key is read until the
    /// list answers the query, unless that takes long.
    fn await_pick(&mut self, tty: &mut Tty, screen: &mut Screen) -> io::Result<Option<Outcome>> {
        Ok(match tty.wait(Some(PICK_PATIENCE), false)? {
            Wake::Woken => self.take_events(),
            Wake::Signal(signal) => Some(Outcome::Signal(signal)),
            Wake::Closed => Some(Outcome::Cancelled),
            Wake::Resized => {
                screen.resize(tty)?;
                None
            }
            Wake::Byte(_) | Wake::TimedOut => {
                self.pick_patiently = false;
                None
            }
        })
    }

    fn key(&mut self, key: &Key) -> Option<Outcome> {
        if let Some(line) = self.help {
            self.help = match key {
                Key::Up | Key::Ctrl('k' | 'p') | Key::PageUp => Some(line.saturating_sub(1)),
                Key::Down | Key::Ctrl('j' | 'n') | Key::PageDown => Some(line + 1),
                _ => None,
            };
            return None;
        }
        match key {
            Key::Enter => return self.pick(),
            Key::Escape | Key::Ctrl('c' | 'g' | 'q') => return Some(Outcome::Cancelled),
            Key::Ctrl('d') if self.line.text().is_empty() => return Some(Outcome::Cancelled),
            Key::Ctrl('r') => {
                self.filter.next_scope(self.has_session());
                self.reload();
            }
            Key::Ctrl('t') => {
                self.filter.toggle_failed();
                self.reload();
            }
            Key::Ctrl('v') => self.preview = self.preview.next(),
            Key::Ctrl('o') | Key::F1 => self.help = Some(0),
            Key::Ctrl('l') => self.repaint = true,
            Key::Up | Key::Ctrl('k' | 'p') => self.select(1),
            Key::Down | Key::Ctrl('j' | 'n') => self.select(-1),
            Key::PageUp => self.select(self.page()),
            Key::PageDown => self.select(-self.page()),
            _ => self.edit(key),
        }
        None
    }

    /// Keys of the query line.
    fn edit(&mut self, key: &Key) {
        let before = self.line.text().to_owned();
        let line = &mut self.line;
        match key {
            Key::Char(char) => line.insert(char.encode_utf8(&mut [0; 4])),
            Key::Paste(text) => line.insert(text.trim_end_matches(['\r', '\n'])),
            Key::Backspace | Key::Ctrl('h') => line.backspace(),
            Key::Delete | Key::Ctrl('d') => line.delete(),
            Key::Left | Key::Ctrl('b') => line.left(),
            Key::Right | Key::Ctrl('f') => line.right(),
            Key::Home | Key::Ctrl('a') => line.home(),
            Key::End | Key::Ctrl('e') => line.end(),
            Key::WordLeft | Key::Alt('b') => line.word_left(),
            Key::WordRight | Key::Alt('f') => line.word_right(),
            Key::Ctrl('u') => line.cut_to_start(),
            Key::Ctrl('w') => line.cut_word(),
            Key::AltBackspace => line.cut_word_left(),
            Key::Alt('d') => line.cut_word_right(),
            Key::Ctrl('y') => line.yank(),
            _ => {}
        }
        if self.line.text() != before {
            (self.selected, self.first_row) = (0, 0);
            self.pick_wanted = false;
            self.start_search();
        }
    }

    fn select(&mut self, by: isize) {
        let last = self.shown.matches.len().saturating_sub(1);
        self.selected = self.selected.saturating_add_signed(by).min(last);
    }

    fn page(&self) -> isize {
        isize::try_from(self.list_rows).unwrap_or(isize::MAX).max(1)
    }

    /// A shell that records started the finder.
    pub(super) fn has_session(&self) -> bool {
        self.options.here.session.is_some()
    }

    fn reload(&mut self) {
        (self.selected, self.first_row) = (0, 0);
        self.pick_wanted = false;
        self.start_load(HEAD_ROWS_MIN.max(self.list_rows));
    }

    fn start_load(&mut self, head_rows: usize) {
        self.load += 1;
        self.complete = false;
        self.trouble = None;
        self.load_wanted.set(self.load);
        let load = Load {
            number: self.load,
            scan: self.options.here.scan(self.filter),
            head_rows,
        };
        // The loader ends only with us.
        let _ = self.loads.send(load);
    }

    fn start_search(&mut self) {
        self.search += 1;
        self.search_wanted.set(self.search);
        let ask = Ask {
            number: self.search,
            corpus: Arc::clone(&self.corpus),
            query: Query::parse(self.line.text()),
        };
        // The searching thread ends only with us.
        let _ = self.searches.send(ask);
    }

    fn take_events(&mut self) -> Option<Outcome> {
        while let Ok(event) = self.events.try_recv() {
            match event {
                Event::Loaded {
                    number,
                    corpus,
                    complete,
                } if number == self.load => {
                    self.corpus = corpus;
                    self.complete = complete;
                    self.start_search();
                }
                Event::Found(found) if found.number == self.search => self.show(found),
                Event::Details(found) => self.details.extend(found),
                Event::Failed { number, why } if number == self.load => {
                    self.trouble = Some(why);
                    self.complete = true;
                }
                // Of a query or a scope that was left meanwhile.
                Event::Loaded { .. } | Event::Found(_) | Event::Failed { .. } => {}
            }
        }
        self.pick_wanted.then(|| self.pick()).flatten()
    }

    /// Shows what a search found. The selection stays on its command, the first one on the first.
    fn show(&mut self, found: Found) {
        if self.selected > 0 {
            let kept = self.selected_item().and_then(|index| {
                let index = found.corpus.find(&self.shown.corpus, index)?;
                found.matches.position(index)
            });
            self.selected = kept.unwrap_or(0);
        }
        self.shown = found;
        self.select(0);
    }

    pub(super) fn selected_item(&self) -> Option<u32> {
        self.shown.matches.get(self.selected)
    }

    /// Whether the list comes from everything there is in the scope.
    pub(super) fn shows_all(&self) -> bool {
        self.complete && Arc::ptr_eq(&self.shown.corpus, &self.corpus)
    }

    /// Whether what is shown answers what is typed.
    fn is_current(&self) -> bool {
        self.shown.number == self.search
    }

    /// Takes the selected command; waits when the list does not answer the query yet.
    fn pick(&mut self) -> Option<Outcome> {
        let answered = self.is_current() && Arc::ptr_eq(&self.shown.corpus, &self.corpus);
        let index = self.selected_item();
        let must_wait = !answered || index.is_none() && !self.complete;
        if must_wait {
            self.pick_patiently |= !self.pick_wanted;
            self.pick_wanted = true;
            return None;
        }
        // Nothing matches: the line stays as it is.
        let Some(index) = index else {
            return Some(Outcome::Cancelled);
        };
        let corpus = &self.shown.corpus;
        let command = match corpus.exact(index) {
            Some(text) => Some(BString::from(text)),
            None => self.source.command(corpus.place(index)),
        };
        Some(match command {
            Some(command) => Outcome::Picked(command),
            None => Outcome::Failed(super::unreadable()),
        })
    }

    /// The places of the rows on the screen.
    fn visible(&self) -> impl Iterator<Item = Place> {
        (self.first_row..self.first_row + self.list_rows)
            .map_while(|position| self.shown.matches.get(position))
            .map(|index| self.shown.corpus.place(index))
    }

    /// For the first frame: on the spot, from pages that were read a moment ago.
    fn look_up_first(&mut self, rows: usize) {
        self.list_rows = rows;
        let places: Vec<Place> = self.visible().collect();
        for place in places {
            let found = details::detail(&self.source, place);
            self.details.extend(found.map(|detail| (place, detail)));
        }
    }

    fn look_up_visible(&mut self) {
        let unknown: HashSet<Place> = self
            .visible()
            .filter(|place| !self.details.contains_key(place))
            .collect();
        if unknown.is_empty() || unknown == self.asked {
            return;
        }
        // The thread ends only with us.
        let _ = self.lookups.send(unknown.iter().copied().collect());
        self.asked = unknown;
    }
}
