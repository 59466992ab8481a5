//! The table of devices that `rr status` shows: one line each, in columns that stay where they are,
//! so that ten devices fit one screen and the eye finds the one that is not well.

use super::{Peer, Status};
use crate::error::CommandError;
use crate::text::{Breaks, fit, pad, visible, width};
use crate::ui::{self, Output, Paint, grouped};
use crate::when;

/// A device as its line shows it.
struct Row {
    mark: Mark,
    /// Name, last exchange, entries to get and to send, path.
    cells: [String; 5],
    /// Whether it holds the same, and if not, what is known of why.
    how: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mark {
    /// It holds the same.
    Same,
    /// Something is on its way, or waits for the next time that both are there.
    Behind,
    /// It could not be reached, or an exchange broke off.
    Wrong,
    /// Nothing is known of it but that it is there.
    Unknown,
}

/// A name may take so many columns.
const NAME_COLUMNS_MAX: usize = 20;

const TITLES: [&str; 5] = ["DEVICE", "LAST", "TO GET", "TO SEND", "PATH"];

/// Prints the table. A line that is too long for the terminal is cut, unless all is `wanted`.
pub(super) fn print(status: &Status, out: &mut Output, all: bool) -> Result<(), CommandError> {
    let mut rows: Vec<Row> = status.peers.iter().map(|peer| met(peer, status)).collect();
    rows.extend(status.unmet.iter().map(unmet));
    rows.sort_by(|a, b| a.cells[0].cmp(&b.cells[0]));
    if rows.is_empty() {
        return Ok(());
    }
    let columns = ui::columns().filter(|_| !all);
    let widths = widths(&rows);
    let paint = Paint::stdout();
    let title = line(&TITLES.map(str::to_owned), widths, "STATE");
    out.line("")?;
    out.line(paint.dim(&format!("  {title}")))?;
    for row in &rows {
        let line = line(&row.cells, widths, &row.how);
        let line = columns.map_or(line.clone(), |columns| {
            fit(&line, columns.saturating_sub(2)).into_owned()
        });
        out.line(format_args!("{} {line}", row.mark.shown(paint)))?;
    }
    let same = rows.iter().filter(|row| row.mark == Mark::Same).count();
    out.line("")?;
    out.line(format_args!(
        "{same} of {} other devices hold the same as this one",
        rows.len()
    ))
}

impl Mark {
    fn shown(self, paint: Paint) -> String {
        match self {
            Mark::Same => paint.green("✓"),
            Mark::Behind => paint.yellow("~"),
            Mark::Wrong => paint.red("!"),
            Mark::Unknown => paint.dim("?"),
        }
    }
}

fn widths(rows: &[Row]) -> [usize; 5] {
    let mut widths = TITLES.map(width);
    for row in rows {
        for (widest, cell) in widths.iter_mut().zip(&row.cells) {
            *widest = width(cell).max(*widest);
        }
    }
    widths
}

/// Names and paths begin, times and numbers end in their columns.
fn line(cells: &[String; 5], widths: [usize; 5], how: &str) -> String {
    let [name, last, get, send, path] = cells;
    let [a, b, c, d, e] = widths;
    let (name, path) = (pad(name, a), pad(path, e));
    let line = format!("{name}  {last:>b$}  {get:>c$}  {send:>d$}  {path}  {how}");
    line.trim_end().to_owned()
}

fn name(name: &str) -> String {
    let name = visible(name.into(), Breaks::Mark);
    fit(&name, NAME_COLUMNS_MAX).into_owned()
}

fn met(peer: &Peer, status: &Status) -> Row {
    let number = |n: Option<u64>| n.map_or("?".to_owned(), grouped);
    let last = match (peer.is_live(), peer.state.last_sync) {
        (true, _) => "now".to_owned(),
        (false, Some(at)) => when::age(at, status.at).trim_end_matches(" ago").to_owned(),
        (false, None) => "never".to_owned(),
    };
    let (mark, how) = how(peer);
    Row {
        mark,
        cells: [
            name(peer.name().unwrap_or(&peer.state.peer)),
            last,
            number(peer.behind_theirs()),
            number(peer.behind_ours),
            peer.path().unwrap_or("-").to_owned(),
        ],
        how,
    }
}

fn unmet((id, peer): &(String, crate::daemon::PeerState)) -> Row {
    let (mark, how) = match &peer.error {
        Some(error) => (Mark::Wrong, visible(error.as_str().into(), Breaks::Mark)),
        None => (Mark::Unknown, "not met yet".to_owned()),
    };
    let path = peer.path.as_deref().unwrap_or("-").to_owned();
    let unknown = || "?".to_owned();
    Row {
        mark,
        cells: [
            name(peer.name.as_deref().unwrap_or(id)),
            "never".to_owned(),
            unknown(),
            unknown(),
            path,
        ],
        how,
    }
}

fn how(peer: &Peer) -> (Mark, String) {
    let error = peer
        .error()
        .map(|error| visible(error.into(), Breaks::Mark));
    let behind =
        peer.behind_ours.is_some_and(|n| n > 0) || peer.behind_theirs().is_some_and(|n| n > 0);
    let stand = match (peer.identical, peer.just_typed()) {
        (Some(true), _) => Some((Mark::Same, "identical")),
        (_, Some(_)) => Some((Mark::Same, "identical but for what was just typed")),
        _ if peer.is_live() => Some((Mark::Behind, "exchanging")),
        // The numbers say it.
        _ if error.is_some() => None,
        _ if behind => Some((Mark::Behind, "behind")),
        (Some(false), _) => Some((Mark::Behind, "not compared since something came")),
        (None, _) => Some((Mark::Behind, "not compared yet")),
    };
    let mark = match (&error, stand) {
        (None, Some((mark, _))) => mark,
        _ => Mark::Wrong,
    };
    let unreadable = (peer.state.unreadable > 0).then(|| {
        let unreadable = grouped(peer.state.unreadable);
        format!("{unreadable} can't be read by this version")
    });
    let parts: Vec<String> = [stand.map(|(_, text)| text.to_owned()), unreadable, error]
        .into_iter()
        .flatten()
        .collect();
    (mark, parts.join("; "))
}
