//! Drawing: the list with the best command next to the prompt, and what is known about it.
//!
//! ```text
//!    3d   git log --oneline
//! ▌  2h ✗ cargo test -p rustory                desk      newest or best, selected
//!   desk 2h · nas 9d                                     how far other devices are known
//!   12/176,000  ctrl-r [all] device  directory ...       how many, and of what
//! > cargo
//! ─ 2026-11-23 10:32:18 (2h ago) · ~/rustory · exit 101 · 3.2s · desk ──────
//! cargo test -p rustory
//! ```
//!
//! No character of a command reaches the terminal as a command (see [`crate::text`]).

use ratatui::Frame;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::{Line as Text, Span};
use rustory_core::Timestamp;
use unicode_segmentation::UnicodeSegmentation as _;
use unicode_width::UnicodeWidthStr as _;

use super::app::App;
use super::columns::{ago, clipped_path, fitted, harmless, wrapped};
use super::details::Detail;
use super::help;
use super::highlight::Highlighter;
use super::palette::Role;
use crate::text::pad;
use crate::ui::grouped;

/// How much of the selected command is shown below the prompt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Preview {
    #[default]
    Usual,
    /// Half of the screen.
    Large,
    None,
}

impl Preview {
    pub(super) fn next(self) -> Preview {
        match self {
            Preview::Usual => Preview::Large,
            Preview::Large => Preview::None,
            Preview::None => Preview::Usual,
        }
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
    fn of(area: Rect, has_devices: bool, preview: Preview) -> Layout {
        let (info, detail, usual) = match area.height {
            0..=2 => (0, 0, 0),
            3..=7 => (1, 0, 0),
            8..=13 => (1, 1, 0),
            14..=23 => (1, 1, 3),
            24..=39 => (1, 1, 5),
            _ => (1, 1, 8),
        };
        let (detail, command) = match preview {
            Preview::Usual => (detail, usual),
            Preview::Large => (detail, detail * (area.height / 2).saturating_sub(1)),
            Preview::None => (0, 0),
        };
        let prompt = area.height.min(1);
        let devices = u16::from(has_devices && area.height >= 10);
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
    let area = frame.area();
    if let Some(first) = &mut app.help {
        *first = help::draw(frame.buffer_mut(), area, app.palette, *first);
        return;
    }
    let layout = Layout::of(area, !app.viewer.devices.is_empty(), app.preview);
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
    if app.shown.matches.len() == 0 {
        nothing(app, buffer, area);
    }
    let highlighter = Highlighter::new(&app.shown.query);
    for (row, position) in (0..area.height).zip(app.first_row..) {
        let Some(index) = app.shown.matches.get(position) else {
            return;
        };
        let item = Item {
            app,
            text: app.shown.corpus.text(index),
            ts: Timestamp::from_micros(app.shown.corpus.ts(index)).unwrap_or_default(),
            detail: app.details.get(&app.shown.corpus.place(index)),
            is_selected: position == app.selected,
        };
        let y = area.bottom() - 1 - row;
        let height = 1;
        item.draw(&highlighter, buffer, Rect { y, height, ..area });
    }
}

/// Says why the list is empty, once that is certain.
fn nothing(app: &App, buffer: &mut Buffer, area: Rect) {
    if area.height == 0 || !app.shows_all() {
        return;
    }
    let place = app.filter.scope.in_words();
    let what = match app.shown.corpus.len() {
        0 if app.filter.failed => format!("nothing failed {place}"),
        0 => format!("there is nothing {place} yet"),
        _ => format!("nothing {place} matches"),
    };
    let line = format!("  {what} · ctrl-r: next scope");
    let style = app.palette.style(Role::Beside);
    buffer.set_stringn(
        area.x,
        area.bottom() - 1,
        line,
        usize::from(area.width),
        style,
    );
}

/// One row of the list.
struct Item<'a> {
    app: &'a App,
    text: &'a str,
    ts: Timestamp,
    detail: Option<&'a Detail>,
    is_selected: bool,
}

/// From this width on there is room for times.
const WIDE: u16 = 30;
const WIDE_ENOUGH_FOR_DEVICES: u16 = 60;
/// From here on, directories and devices have columns of their own.
const WIDE_ENOUGH_FOR_COLUMNS: u16 = 100;

impl Item<'_> {
    fn draw(&self, highlighter: &Highlighter, buffer: &mut Buffer, area: Rect) {
        let palette = self.app.palette;
        let style = match self.is_selected {
            true => palette.selected(),
            false => Style::new(),
        };
        buffer.set_style(area, style);
        let mut line = self.left(area.width);
        let right = self.right(area.width);
        let right_width: usize = right.iter().map(Span::width).sum();
        let used: usize = line.iter().map(Span::width).sum();
        let room = usize::from(area.width).saturating_sub(used + right_width);
        let positions = highlighter.positions(self.text);
        let matched = palette.style(Role::Matched);
        line.extend(fitted(self.text, &positions, room, style, matched));
        buffer.set_line(area.x, area.y, &Text::from(line), area.width);
        let right_width = u16::try_from(right_width).unwrap_or(0).min(area.width);
        let at = area.right() - right_width;
        buffer.set_line(at, area.y, &Text::from(right), right_width);
    }

    /// The pointer, how long ago, and whether it failed.
    fn left(&self, width: u16) -> Vec<Span<'static>> {
        let palette = self.app.palette;
        let mut left = vec![match self.is_selected {
            true => Span::styled("▌", palette.style(Role::Pointer)),
            false => Span::raw(" "),
        }];
        if width >= WIDE {
            let ago = format!(" {:>4}", ago(self.ts, self.app.viewer.now));
            left.push(Span::styled(ago, palette.style(Role::Beside)));
        }
        left.push(match self.detail {
            Some(detail) if detail.has_failed() => Span::styled(" ✗ ", palette.style(Role::Failed)),
            _ if width >= WIDE => Span::raw("   "),
            _ => Span::raw(" "),
        });
        left
    }

    /// Where it was typed: the directory where there is room, and which other device.
    fn right(&self, width: u16) -> Vec<Span<'static>> {
        let palette = self.app.palette;
        let viewer = &self.app.viewer;
        let label = match self.detail {
            Some(detail) if detail.is_foreign => {
                viewer.devices.label(&detail.device_id, &detail.hostname)
            }
            _ => String::new(),
        };
        let device = |text| Span::styled(text, palette.style(Role::Device));
        if width < WIDE_ENOUGH_FOR_COLUMNS {
            let shown = width >= WIDE_ENOUGH_FOR_DEVICES && !label.is_empty();
            return shown
                .then(|| device(format!("  {label} ")))
                .into_iter()
                .collect();
        }
        let directory = self
            .detail
            .map_or_else(String::new, |detail| viewer.directory(detail));
        let columns = usize::from(width) / 5;
        let directory = pad(&clipped_path(&directory, columns), columns);
        let mut right = vec![Span::styled(
            format!("  {directory}"),
            palette.style(Role::Beside),
        )];
        if !viewer.devices.is_empty() {
            let label = pad(&label, viewer.devices.label_columns());
            right.push(device(format!("  {label} ")));
        }
        right
    }
}

/// Tells what is not here yet from what is nowhere.
fn devices(app: &App, buffer: &mut Buffer, area: Rect) {
    if area.height > 0 {
        let width = usize::from(area.width);
        let known = app
            .viewer
            .devices
            .line(app.viewer.now, width.saturating_sub(3));
        let style = app.palette.style(Role::Beside);
        buffer.set_stringn(area.x, area.y, format!("  {known}"), width, style);
    }
}

/// The most important first; as many as there is room for.
const HINTS: [&str; 5] = [
    "ctrl-o keys",
    "ctrl-t failed",
    "ctrl-v preview",
    "enter take",
    "esc leave",
];

/// How many match, of what; on the right the keys that there is room for.
fn info(app: &App, buffer: &mut Buffer, area: Rect) {
    if area.height == 0 {
        return;
    }
    let palette = app.palette;
    let loading = if app.shows_all() { "" } else { "…" };
    let mut spans = vec![Span::raw(format!(
        "  {}/{}{loading} ",
        grouped(app.shown.matches.len() as u64),
        grouped(app.shown.corpus.len() as u64)
    ))];
    let width = usize::from(area.width);
    let room = width.saturating_sub(spans[0].width());
    match &app.trouble {
        Some(trouble) => {
            spans.push(Span::styled(
                app.filter.held_line(),
                palette.style(Role::Scope),
            ));
            let trouble = format!(" {}", harmless(trouble));
            spans.push(Span::styled(trouble, palette.style(Role::Failed)));
        }
        None => spans.extend(scopes(app, room)),
    }
    let used: usize = spans.iter().map(Span::width).sum();
    buffer.set_line(area.x, area.y, &Text::from(spans), area.width);
    let hints = hints(width.saturating_sub(used + 3));
    let columns = u16::try_from(hints.width()).unwrap_or(0);
    if columns > 0 && columns < area.width {
        let at = area.right() - columns - 1;
        buffer.set_string(at, area.y, hints, palette.style(Role::Beside));
    }
}

/// All scopes where there is room, those that hold in brackets; else these alone.
fn scopes(app: &App, room: usize) -> Vec<Span<'static>> {
    let palette = app.palette;
    let key = " ctrl-r ";
    let has_session = app.has_session();
    let mut tabs = app.filter.tabs(has_session);
    if key.width() + app.filter.tabs_line(has_session).width() > room {
        tabs.retain(|&(_, holds)| holds);
    }
    let tabs = tabs.into_iter().map(|(name, holds)| match holds {
        true => Span::styled(format!("[{name}]"), palette.style(Role::Scope)),
        false => Span::styled(format!(" {name} "), palette.style(Role::Beside)),
    });
    let key = Span::styled(key, palette.style(Role::Beside));
    std::iter::once(key).chain(tabs).collect()
}

fn hints(room: usize) -> String {
    let shown = (1..=HINTS.len())
        .rev()
        .map(|count| HINTS[..count].join(" · "));
    shown
        .into_iter()
        .find(|hints| hints.width() <= room)
        .unwrap_or_default()
}

/// Returns the cursor's column.
fn prompt(app: &App, buffer: &mut Buffer, area: Rect) -> u16 {
    if area.height == 0 {
        return area.x;
    }
    let sign = if area.width >= 4 { "> " } else { "" };
    buffer.set_stringn(
        area.x,
        area.y,
        sign,
        sign.len(),
        app.palette.style(Role::Prompt),
    );
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
    if detail.height == 0 {
        return;
    }
    let width = usize::from(detail.width);
    let beside = app.palette.style(Role::Beside);
    let Some(index) = app.selected_item() else {
        buffer.set_string(detail.x, detail.y, "─".repeat(width), beside);
        return;
    };
    let corpus = &app.shown.corpus;
    let ts = Timestamp::from_micros(corpus.ts(index)).unwrap_or_default();
    let known = app.details.get(&corpus.place(index));
    let rule = app.viewer.rule(ts, known, width).into_iter();
    let rule: Vec<Span> = rule
        .map(|(text, role)| Span::styled(text, app.palette.style(role)))
        .collect();
    buffer.set_line(detail.x, detail.y, &Text::from(rule), detail.width);
    let (columns, rows) = (usize::from(command.width), usize::from(command.height));
    let lines = wrapped(corpus.text(index), columns, rows);
    for (y, line) in (command.y..).zip(lines) {
        buffer.set_stringn(command.x, y, line, columns, Style::new());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_height_is_filled_exactly() {
        for height in 0..200 {
            let area = Rect::new(0, 0, 10, height);
            let preview = [Preview::Usual, Preview::Large, Preview::None][usize::from(height) % 3];
            let at = Layout::of(area, height % 2 == 0, preview);
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
}
