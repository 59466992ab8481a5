//! Drawing: the list with the best command next to the prompt, and what is known about it.
//!
//! ```text
//!   3d   git log --oneline
//! ▌ 2h ✗ cargo test -p rustory            desk      newest or best, selected
//!   desk 2h · nas 9d                                how far other devices are known
//!   12/176,000  all  ctrl-r scope ...
//! > cargo
//! ─ 2026-11-23 10:32:18 · ~/rustory · exit 101 · 3.2s · desk ───────────────
//! cargo test -p rustory
//! ```
//!
//! Only the terminal's own sixteen colours, so that light and dark backgrounds both work. No
//! character of a command reaches the terminal as a command (see [`crate::text`]).

use std::ops::Range;

use bstr::ByteSlice as _;
use ratatui::Frame;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line as Text, Span};
use rustory_core::Timestamp;
use unicode_segmentation::UnicodeSegmentation as _;
use unicode_width::UnicodeWidthStr as _;

use super::app::App;
use super::details::Detail;
use super::highlight::Highlighter;
use super::load::Scope;
use crate::text::{Breaks, push_visible};
use crate::ui::grouped;
use crate::when;

/// Styles, with and without colour.
#[derive(Clone, Copy, Debug)]
pub(super) struct Palette {
    colour: bool,
}

impl Palette {
    pub(super) fn from_env() -> Palette {
        Palette {
            colour: crate::ui::colour(true),
        }
    }

    fn of(self, colour: Color) -> Style {
        match self.colour {
            true => Style::new().fg(colour),
            false => Style::new(),
        }
    }

    fn pointer(self) -> Style {
        self.of(Color::Magenta).add_modifier(Modifier::BOLD)
    }

    fn matched(self) -> Style {
        match self.colour {
            true => Style::new().fg(Color::Green).add_modifier(Modifier::BOLD),
            false => Style::new().add_modifier(Modifier::BOLD | Modifier::UNDERLINED),
        }
    }

    fn selected(self) -> Style {
        Style::new().add_modifier(Modifier::BOLD)
    }

    fn failed(self) -> Style {
        self.of(Color::Red)
    }

    fn prompt(self) -> Style {
        self.of(Color::Blue).add_modifier(Modifier::BOLD)
    }

    fn scope(self) -> Style {
        self.of(Color::Yellow)
    }

    fn beside(self) -> Style {
        Style::new().add_modifier(Modifier::DIM)
    }
}

/// Where things are on a screen of this size. Everything but the prompt may be missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Layout {
    list: Rect,
    devices: Rect,
    info: Rect,
    prompt: Rect,
    detail: Rect,
    command: Rect,
}

impl Layout {
    fn of(area: Rect, has_devices: bool) -> Layout {
        let (info, detail, command) = match area.height {
            0..=2 => (0, 0, 0),
            3..=7 => (1, 0, 0),
            8..=13 => (1, 1, 0),
            14..=23 => (1, 1, 3),
            24..=39 => (1, 1, 5),
            _ => (1, 1, 8),
        };
        let prompt = area.height.min(1);
        let devices = u16::from(has_devices && area.height >= 12);
        let list = area.height - prompt - info - detail - command - devices;
        let mut y = area.y;
        let mut rows = |height| {
            let rect = Rect { y, height, ..area };
            y += height;
            rect
        };
        Layout {
            list: rows(list),
            devices: rows(devices),
            info: rows(info),
            prompt: rows(prompt),
            detail: rows(detail),
            command: rows(command),
        }
    }
}

/// Draws everything.
pub(super) fn draw(app: &mut App, frame: &mut Frame<'_>) {
    let layout = Layout::of(frame.area(), !app.devices.is_empty());
    app.list_rows = usize::from(layout.list.height);
    app.first_row = scrolled(app.first_row, app.selected, app.list_rows);
    let column = {
        let buffer = frame.buffer_mut();
        list(app, buffer, layout.list);
        devices(app, buffer, layout.devices);
        info(app, buffer, layout.info);
        preview(app, buffer, layout.detail, layout.command);
        prompt(app, buffer, layout.prompt)
    };
    if layout.prompt.height > 0 {
        frame.set_cursor_position((column, layout.prompt.y));
    }
}

/// The best row on the screen, so that the selected one is on it too.
fn scrolled(first: usize, selected: usize, rows: usize) -> usize {
    let lowest = (selected + 1).saturating_sub(rows.max(1));
    first.clamp(lowest, selected)
}

fn list(app: &App, buffer: &mut Buffer, area: Rect) {
    let highlighter = Highlighter::new(&app.shown.query);
    for (row, position) in (0..area.height).zip(app.first_row..) {
        let Some(index) = app.shown.matches.get(position) else {
            return;
        };
        let item = Item {
            text: app.shown.corpus.text(index),
            ts: Timestamp::from_micros(app.shown.corpus.ts(index)).unwrap_or_default(),
            detail: app.details.get(&app.shown.corpus.place(index)),
            is_selected: position == app.selected,
        };
        let y = area.bottom() - 1 - row;
        item.draw(
            app,
            &highlighter,
            buffer,
            Rect {
                y,
                height: 1,
                ..area
            },
        );
    }
}

/// One row of the list.
struct Item<'a> {
    text: &'a str,
    ts: Timestamp,
    detail: Option<&'a Detail>,
    is_selected: bool,
}

/// From this width on there is room for times and devices.
const WIDE: u16 = 30;
const WIDE_ENOUGH_FOR_DEVICES: u16 = 60;

impl Item<'_> {
    fn draw(&self, app: &App, highlighter: &Highlighter, buffer: &mut Buffer, area: Rect) {
        let palette = app.palette;
        let mut left = vec![match self.is_selected {
            true => Span::styled("▌", palette.pointer()),
            false => Span::raw(" "),
        }];
        if area.width >= WIDE {
            let ago = format!("{:>4}", ago(self.ts, app.now));
            left.push(Span::styled(ago, palette.beside()));
        }
        left.push(match self.detail {
            Some(detail) if detail.has_failed() => Span::styled(" ✗ ", palette.failed()),
            _ if area.width >= WIDE => Span::raw("   "),
            _ => Span::raw(" "),
        });
        let device = self.device(area.width);
        let used: usize = left.iter().map(Span::width).sum();
        let room = usize::from(area.width).saturating_sub(used + device.width());
        let style = match self.is_selected {
            true => palette.selected(),
            false => Style::new(),
        };
        let positions = highlighter.positions(self.text);
        left.extend(fitted(
            self.text,
            &positions,
            room,
            style,
            palette.matched(),
        ));
        buffer.set_line(area.x, area.y, &Text::from(left), area.width);
        let at = area.right() - u16::try_from(device.width()).unwrap_or(0).min(area.width);
        buffer.set_stringn(at, area.y, &device, device.width(), palette.beside());
    }

    /// The other device's name, with a blank before it.
    fn device(&self, width: u16) -> String {
        match self.detail {
            Some(detail) if detail.is_foreign && width >= WIDE_ENOUGH_FOR_DEVICES => {
                let name = clipped(&harmless(&detail.hostname), usize::from(width) / 5);
                format!(" {name} ")
            }
            _ => String::new(),
        }
    }
}

/// A character as people see it, made harmless.
struct Cell {
    text: String,
    width: usize,
    is_matched: bool,
}

/// Bytes of a command that are looked at for one column: a family of emoji has 25 in two.
const COLUMN_BYTES_MAX: usize = 16;

/// The part of a command that fits into `room` columns, so that the last matched letter is in it.
fn fitted(
    text: &str,
    matched: &[usize],
    room: usize,
    style: Style,
    matched_style: Style,
) -> Vec<Span<'static>> {
    let window = window(text, matched, room);
    let mut cells = cells(&text[window.clone()], window.start, matched);
    let mut spans = Vec::new();
    let total: usize = cells.iter().map(|cell| cell.width).sum();
    let cut_right = window.end < text.len();
    if total > room || window.start > 0 || cut_right {
        cells = scroll(cells, room, window.start > 0, cut_right);
    }
    for cell in cells {
        let style = match cell.is_matched {
            true => style.patch(matched_style),
            false => style,
        };
        spans.push(Span::styled(cell.text, style));
    }
    spans
}

/// The bytes of a long command that may be shown: up to the last match and around it.
fn window(text: &str, matched: &[usize], room: usize) -> Range<usize> {
    let bytes_max = (room + 1) * COLUMN_BYTES_MAX;
    let last = matched.last().copied().unwrap_or(0);
    let start = match last > bytes_max / 2 {
        true => text.floor_char_boundary(last - bytes_max / 2),
        false => 0,
    };
    start..text.floor_char_boundary(start.saturating_add(bytes_max))
}

fn cells(text: &str, offset: usize, matched: &[usize]) -> Vec<Cell> {
    text.grapheme_indices(true)
        .map(|(at, grapheme)| {
            let bytes = offset + at..offset + at + grapheme.len();
            let next = matched.partition_point(|&at| at < bytes.start);
            let text = harmless(grapheme);
            Cell {
                width: text.width(),
                text,
                is_matched: matched.get(next).is_some_and(|at| bytes.contains(at)),
            }
        })
        .collect()
}

/// Cuts cells to `room` columns, with `…` where something is missing.
fn scroll(cells: Vec<Cell>, room: usize, more_left: bool, more_right: bool) -> Vec<Cell> {
    if room == 0 {
        return Vec::new();
    }
    let ellipsis = || Cell {
        text: "…".to_owned(),
        width: 1,
        is_matched: false,
    };
    let last = cells.iter().rposition(|cell| cell.is_matched).unwrap_or(0);
    let until_last: usize = cells[..(last + 1).min(cells.len())]
        .iter()
        .map(|cell| cell.width)
        .sum();
    // A few columns behind the last match, for what it is part of.
    let behind = (room / 4).min(10);
    let mut skip = (until_last + behind + 2).saturating_sub(room);
    if until_last < room.saturating_sub(1) && !more_left {
        skip = 0;
    }
    let mut cut = Vec::new();
    let mut used = 0;
    let mut skipped = 0;
    if skip > 0 || more_left {
        cut.push(ellipsis());
        used = 1;
    }
    let mut rest = cells.into_iter().skip_while(|cell| {
        let is_before = skipped < skip;
        skipped += cell.width;
        is_before
    });
    let mut cut_short = more_right;
    for cell in &mut rest {
        if used + cell.width > room {
            cut_short = true;
            break;
        }
        used += cell.width;
        cut.push(cell);
    }
    if cut_short {
        while used + 1 > room {
            match cut.pop() {
                Some(cell) => used -= cell.width,
                None => return cut,
            }
        }
        cut.push(ellipsis());
    }
    cut
}

/// Text in which nothing is left that a terminal would run or that can't be seen.
fn harmless(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for grapheme in text.graphemes(true) {
        let has_control = grapheme.chars().any(is_marked);
        if has_control {
            for char in grapheme.chars() {
                push_visible(&mut shown, char, Breaks::Mark);
            }
        } else if grapheme.width() == 0 {
            for char in grapheme.chars() {
                shown.push_str(&format!("\\u{{{:x}}}", char as u32));
            }
        } else {
            shown.push_str(grapheme);
        }
    }
    shown
}

fn is_marked(char: char) -> bool {
    let mut shown = String::new();
    if (' '..='~').contains(&char) {
        return false;
    }
    push_visible(&mut shown, char, Breaks::Mark);
    !shown.starts_with(char)
}

/// The start of a harmless text, at most `width` columns wide.
fn clipped(text: &str, width: usize) -> String {
    let mut used = 0;
    text.graphemes(true)
        .take_while(|grapheme| {
            used += grapheme.width();
            used <= width
        })
        .collect()
}

/// Tells what is not here yet from what is nowhere.
fn devices(app: &App, buffer: &mut Buffer, area: Rect) {
    let known: Vec<String> = app
        .devices
        .iter()
        .map(|device| {
            let name = clipped(&harmless(&device.hostname), DEVICE_COLUMNS_MAX);
            format!("{name} {}", ago(device.ts, app.now))
        })
        .collect();
    if area.height > 0 {
        let line = format!("  {}", known.join(" · "));
        let width = usize::from(area.width);
        buffer.set_stringn(area.x, area.y, line, width, app.palette.beside());
    }
}

const DEVICE_COLUMNS_MAX: usize = 20;

fn info(app: &App, buffer: &mut Buffer, area: Rect) {
    let palette = app.palette;
    let loading = if app.shows_all() { "" } else { "…" };
    let mut spans = vec![
        Span::raw(format!(
            "  {}/{}{loading}  ",
            grouped(app.shown.matches.len() as u64),
            grouped(app.shown.corpus.len() as u64)
        )),
        Span::styled(scope_name(app), palette.scope()),
    ];
    if let Some(trouble) = &app.trouble {
        spans.push(Span::styled(
            format!("  {}", harmless(trouble)),
            palette.failed(),
        ));
    }
    if app.failed {
        spans.push(Span::styled(" · failed only", palette.failed()));
    }
    spans.push(Span::styled(
        "  ctrl-r scope · ctrl-t failed · enter take · esc leave",
        palette.beside(),
    ));
    if area.height > 0 {
        buffer.set_line(area.x, area.y, &Text::from(spans), area.width);
    }
}

fn scope_name(app: &App) -> &'static str {
    match app.scope {
        Scope::All => "all",
        Scope::Device => "this device",
        Scope::Directory => "this directory",
        Scope::Session => "this session",
    }
}

/// Returns the cursor's column.
fn prompt(app: &App, buffer: &mut Buffer, area: Rect) -> u16 {
    if area.height == 0 {
        return area.x;
    }
    let sign = if area.width >= 4 { "> " } else { "" };
    buffer.set_stringn(area.x, area.y, sign, sign.len(), app.palette.prompt());
    let start = area.x + u16::try_from(sign.len()).unwrap_or(0);
    let room = usize::from(area.right() - start);
    let (left, right) = app.line.parts();
    let (left, right) = (harmless(left), harmless(right));
    // The cursor stays on the screen: the query scrolls below it.
    let mut hidden = 0;
    let over = (left.width() + 1).saturating_sub(room);
    let left: String = left
        .graphemes(true)
        .skip_while(|grapheme| {
            let is_hidden = hidden < over;
            hidden += grapheme.width();
            is_hidden
        })
        .collect();
    let (after_left, _) = buffer.set_stringn(start, area.y, &left, room, Style::new());
    let rest = usize::from(area.right().saturating_sub(after_left));
    buffer.set_stringn(
        after_left.min(area.right().saturating_sub(1)),
        area.y,
        right,
        rest,
        Style::new(),
    );
    after_left.min(area.right().saturating_sub(1))
}

fn preview(app: &App, buffer: &mut Buffer, detail: Rect, command: Rect) {
    let palette = app.palette;
    if detail.height == 0 {
        return;
    }
    let mut facts = vec!["─".to_owned()];
    if let Some(index) = app.selected_item() {
        let corpus = &app.shown.corpus;
        facts.push(known(
            app,
            corpus.ts(index),
            app.details.get(&corpus.place(index)),
        ));
        let lines = wrapped(
            corpus.text(index),
            usize::from(command.width),
            usize::from(command.height),
        );
        for (y, line) in (command.y..).zip(lines) {
            buffer.set_stringn(command.x, y, line, usize::from(command.width), Style::new());
        }
    }
    let mut line = facts.join(" ");
    line.push(' ');
    let fill = usize::from(detail.width).saturating_sub(line.width());
    line.push_str(&"─".repeat(fill));
    buffer.set_stringn(
        detail.x,
        detail.y,
        line,
        usize::from(detail.width),
        palette.beside(),
    );
}

/// When, where, how it ended, how long it took, and on which device.
fn known(app: &App, ts: i64, detail: Option<&Detail>) -> String {
    let ts = Timestamp::from_micros(ts).unwrap_or_default();
    let mut facts = vec![when::local(ts, &app.zone).trim_end().to_owned()];
    if let Some(detail) = detail {
        if !detail.cwd.is_empty() {
            facts.push(harmless(&directory(app, detail)));
        }
        match detail.exit_code {
            Some(0) => {}
            Some(code) => facts.push(format!("exit {code}")),
            None => facts.push("exit unknown".to_owned()),
        }
        facts.extend(detail.duration_ms.map(when::duration));
        if !detail.hostname.is_empty() {
            facts.push(harmless(&detail.hostname));
        }
    }
    facts.join(" · ")
}

fn directory(app: &App, detail: &Detail) -> String {
    let shortened = app
        .home
        .as_ref()
        .filter(|home| home.len() > 1)
        .and_then(|home| {
            let rest = detail.cwd.strip_prefix(home.as_slice())?;
            (rest.is_empty() || rest.starts_with(b"/")).then(|| format!("~{}", rest.to_str_lossy()))
        });
    shortened.unwrap_or_else(|| detail.cwd.to_str_lossy().into_owned())
}

/// A command in lines of at most `width` columns, at most `height` of them.
fn wrapped(text: &str, width: usize, height: usize) -> Vec<String> {
    let mut lines = Vec::new();
    if width == 0 {
        return lines;
    }
    let bytes_max = text.floor_char_boundary((width + 1) * (height + 1) * COLUMN_BYTES_MAX);
    for line in text[..bytes_max].split('\n') {
        let mut row = String::new();
        let mut used = 0;
        for grapheme in line.graphemes(true) {
            let shown = match grapheme {
                "\t" => "    ".to_owned(),
                other => harmless(other),
            };
            for shown in shown.graphemes(true) {
                if used + shown.width() > width {
                    lines.push(std::mem::take(&mut row));
                    used = 0;
                }
                used += shown.width();
                row.push_str(shown);
            }
        }
        lines.push(row);
        if lines.len() > height {
            break;
        }
    }
    if lines.len() > height {
        lines.truncate(height);
        if let Some(last) = lines.last_mut() {
            *last = format!("{}…", clipped(last, width.saturating_sub(1)));
        }
    }
    lines
}

/// `12s`, `5m`, `3h`, `2d`, `8mo`, `4y`; at most four columns. Blank when not known.
fn ago(then: Timestamp, now: Timestamp) -> String {
    if then.is_unknown() {
        return String::new();
    }
    let secs = now.since(then).as_secs().max(0);
    let days = secs / 86_400;
    match (secs, days) {
        (0..60, _) => format!("{secs}s"),
        (60..3_600, _) => format!("{}m", secs / 60),
        (_, 0) => format!("{}h", secs / 3_600),
        (_, 1..60) => format!("{days}d"),
        (_, 60..365) => format!("{}mo", days / 30),
        _ => format!("{}y", days / 365),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn shown(text: &str, matched: &[usize], room: usize) -> String {
        let spans = fitted(text, matched, room, Style::new(), Style::new());
        spans.iter().map(|span| span.content.as_ref()).collect()
    }

    #[test]
    fn a_long_command_is_cut_so_that_the_match_stays_in_sight() {
        let text = "0123456789abcdefghijXYZ and so on for long";
        assert_eq!(shown(text, &[], 10), "012345678…");
        assert_eq!(shown(text, &[2], 10), "012345678…");
        assert_eq!(shown(text, &[20, 21, 22], 10), "…hijXYZ a…");
        assert_eq!(shown("short", &[4], 10), "short");
        assert_eq!(shown("한글한글", &[], 5), "한글…");
        assert_eq!(shown("한글한글", &[], 4), "한…");
        assert_eq!(shown("abc", &[], 0), "");
    }

    #[test]
    fn line_breaks_are_marked_in_the_list_and_followed_in_the_preview() {
        let text = "for x\n\tdo\ndone";
        assert_eq!(shown(text, &[], 40), "for x⏎⇥do⏎done");
        assert_eq!(wrapped(text, 40, 5), ["for x", "    do", "done"]);
        assert_eq!(wrapped(text, 40, 2), ["for x", "    do…"]);
        assert_eq!(wrapped("abcdef", 3, 5), ["abc", "def"]);
        assert_eq!(wrapped("한글", 3, 5), ["한", "글"]);
    }

    #[test]
    fn ages_take_four_columns_at_most() {
        let now = Timestamp::from_secs(2_000_000_000).unwrap();
        for (secs, expect) in [
            (-5, "0s"),
            (59, "59s"),
            (60, "1m"),
            (86_399, "23h"),
            (86_400, "1d"),
            (5_183_999, "59d"),
            (5_184_000, "2mo"),
            (31_535_999, "12mo"),
            (63_072_000, "2y"),
        ] {
            let then = Timestamp::from_secs(2_000_000_000 - secs).unwrap();
            assert_eq!(ago(then, now), expect);
        }
        assert_eq!(ago(Timestamp::from_micros(5).unwrap(), now), "");
    }

    #[test]
    fn every_height_is_filled_exactly() {
        for height in 0..200 {
            let area = Rect::new(0, 0, 10, height);
            let at = Layout::of(area, height % 2 == 0);
            let parts = [
                at.list, at.devices, at.info, at.prompt, at.detail, at.command,
            ];
            let sum: u16 = parts.iter().map(|part| part.height).sum();
            assert_eq!(sum, height);
            assert!(height == 0 || at.prompt.height == 1);
            assert!(height < 3 || at.list.height > 0);
        }
    }

    #[test]
    fn the_selected_row_is_always_on_the_screen() {
        assert_eq!(scrolled(0, 0, 5), 0);
        assert_eq!(scrolled(0, 4, 5), 0);
        assert_eq!(scrolled(0, 5, 5), 1);
        assert_eq!(scrolled(9, 3, 5), 3);
        assert_eq!(scrolled(0, 7, 0), 7);
    }

    proptest! {
        #[test]
        fn nothing_is_wider_than_its_place_and_nothing_harmful_is_in_it(
            text in prop::collection::vec(
                prop_oneof!["[a-c ]{1,5}", "\\PC", Just("\u{1b}[31m".to_owned()), Just("\n\t".to_owned()),
                    Just("👨‍👩‍👧‍👦".to_owned()), Just("한글e\u{301}".to_owned()), Just("\u{202e}\u{200b}\u{9b}".to_owned()), any::<char>().prop_map(String::from)],
                0..20,
            ).prop_map(|parts| parts.concat()),
            picks in prop::collection::vec(0usize..200, 0..4),
            room in 0usize..80,
            height in 0usize..5,
        ) {
            let mut matched: Vec<usize> = picks.into_iter().filter(|&at| at < text.len()).collect();
            matched.sort_unstable();
            let row = shown(&text, &matched, room);
            prop_assert!(row.width() <= room, "{row:?} in {room}");
            let mut lines = wrapped(&text, room, height);
            prop_assert!(lines.len() <= height);
            lines.push(row);
            for line in lines {
                // One wide character has a line of its own; the screen's edge cuts it.
                prop_assert!(line.width() <= room.max(2), "{line:?} in {room}");
                let harmful = |char: char| char.is_control() || ('\u{202a}'..='\u{202e}').contains(&char);
                prop_assert!(!line.chars().any(harmful), "{line:?}");
            }
        }
    }
}
