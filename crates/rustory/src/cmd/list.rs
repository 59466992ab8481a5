//! `rr list`: entries by filter, for eyes and for programs.

use std::io::IsTerminal as _;
use std::ops::ControlFlow;
use std::path::{Component, Path, PathBuf};

use bstr::{BStr, ByteSlice as _, ByteVec as _};
use jiff::tz::TimeZone;
use rustory_core::json::EntryJson;
use rustory_core::{Entry, Timestamp};
use rustory_store::{ExitFilter, Filter, Store, spool_dir};

use crate::ctx::Ctx;
use crate::error::CommandError;
use crate::text::{Breaks, visible};
use crate::ui::Output;
use crate::{drain, when};

/// List entries, newest last
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    rr list git push              commands with both words\n  \
    rr list --exit fail --since today\n  \
    rr list --cwd . --limit all\n  \
    rr list --json | jq -r .cmd")]
pub(crate) struct Args {
    /// Words that must all occur; upper case only matters where you type it
    #[arg(value_name = "QUERY")]
    query: Vec<String>,
    #[command(flatten)]
    filter: FilterArgs,
    /// At most this many, the newest ones; `all` for no limit
    #[arg(short = 'n', long, value_name = "N", default_value = "1000", value_parser = parse_limit, allow_hyphen_values = true)]
    limit: Limit,
    /// One JSON object a line
    #[arg(long)]
    json: bool,
}

/// The filters that several commands share.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct FilterArgs {
    /// Typed in this directory
    #[arg(long, value_name = "DIR")]
    cwd: Option<PathBuf>,
    /// Typed on this device: its id, or `this`
    #[arg(long, value_name = "DEVICE")]
    device: Option<String>,
    /// Typed on a host of this name
    #[arg(long, value_name = "NAME")]
    host: Option<String>,
    /// Ended so: a status, `ok` or `fail`
    #[arg(long, value_name = "N|ok|fail", value_parser = parse_exit, allow_hyphen_values = true)]
    exit: Option<ExitFilter>,
    /// Started at or after: `2026-11-01`, `yesterday`, `2h`, `3 days ago`
    #[arg(long, value_name = "TIME", value_parser = when::parse_arg)]
    since: Option<Timestamp>,
    /// Started before
    #[arg(long, value_name = "TIME", value_parser = when::parse_arg)]
    until: Option<Timestamp>,
    /// Typed in this session
    #[arg(long, value_name = "SESSION")]
    session: Option<String>,
}

impl FilterArgs {
    pub(crate) fn filter(&self, own_id: &str) -> Result<Filter, CommandError> {
        Ok(Filter {
            device_id: self.device.as_ref().map(|device| match device.as_str() {
                "this" => own_id.to_owned(),
                id => id.to_owned(),
            }),
            hostname: self.host.clone(),
            cwd: self.cwd.as_deref().map(directory).transpose()?,
            session: self.session.clone(),
            exit: self.exit,
            since: self.since,
            until: self.until,
        })
    }
}

/// The path as a shell's `$PWD` would have it: absolute, without `.`, `..` and a trailing slash,
/// symbolic links kept.
fn directory(path: &Path) -> Result<bstr::BString, CommandError> {
    let path = std::path::absolute(path)
        .map_err(|err| CommandError::usage(format!("--cwd `{}`: {err}", path.display())))?;
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => {
                plain.pop();
            }
            part => plain.push(part),
        }
    }
    Ok(Vec::from_path_buf(plain)
        .expect("paths are bytes on Unix")
        .into())
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Limit(usize);

fn parse_limit(text: &str) -> Result<Limit, String> {
    match text {
        "all" => Ok(Limit(usize::MAX)),
        text => match text.parse() {
            Ok(0) | Err(_) => Err("expected a number from 1 on, or `all`".to_owned()),
            Ok(limit) => Ok(Limit(limit)),
        },
    }
}

fn parse_exit(text: &str) -> Result<ExitFilter, String> {
    match text {
        "ok" => Ok(ExitFilter::Ok),
        "fail" => Ok(ExitFilter::Fail),
        text => text
            .parse()
            .map(ExitFilter::Code)
            .map_err(|_| "expected a status such as `1`, `ok` or `fail`".to_owned()),
    }
}

pub(crate) fn run(args: Args, ctx: &Ctx) -> Result<(), CommandError> {
    let mut store = ctx.open_for_search()?;
    let listing = Listing {
        filter: args.filter.filter(&store.identity().device_id)?,
        words: Words::new(&args.query),
        waiting: waiting(ctx, &mut store)?,
    };
    let mut printer = Printer::new(args.json);
    if args.limit.0 == usize::MAX {
        listing.print_all(&store, &mut printer)?;
    } else if listing.print_newest(&store, args.limit.0, &mut printer)? {
        ctx.note(format_args!(
            "only the newest {} are shown; --limit all shows the rest",
            args.limit.0
        ));
    }
    printer.out.finish()
}

/// What could not be ingested now, oldest first: it is listed behind the log all the same.
fn waiting(ctx: &Ctx, store: &mut Store) -> Result<Vec<Entry>, CommandError> {
    let waiting = drain::drain_or_peek(ctx, store)?;
    if !waiting.is_empty() {
        ctx.note(format_args!(
            "the database can't be written now; {} commands wait in the spool",
            waiting.len()
        ));
    }
    let stamp = drain::stamp(ctx);
    let own_id = &store.identity().device_id;
    Ok(waiting
        .iter()
        .map(|typed| Entry {
            device_id: own_id.clone(),
            ..spool_dir::entry(typed, typed.cmd.to_vec(), &stamp)
        })
        .collect())
}

/// What to list.
struct Listing {
    filter: Filter,
    words: Words,
    waiting: Vec<Entry>,
}

impl Listing {
    fn waiting(&self) -> impl DoubleEndedIterator<Item = &Entry> {
        self.waiting
            .iter()
            .filter(|entry| self.filter.matches(entry) && self.words.match_in(entry.cmd.as_ref()))
    }

    fn print_all(&self, store: &Store, printer: &mut Printer) -> Result<(), CommandError> {
        let mut failed = None;
        store.oldest_first(&self.filter, |_, entry| {
            if self.words.match_in(entry.cmd.as_ref())
                && let Err(err) = printer.print(&entry)
            {
                failed = Some(err);
            }
            stop_if(failed.is_some() || printer.out.is_closed())
        })?;
        failed.map_or(Ok(()), Err)?;
        self.waiting().try_for_each(|entry| printer.print(entry))
    }

    /// Prints the newest `limit` that match, newest last. Returns whether there are more.
    fn print_newest(
        &self,
        store: &Store,
        limit: usize,
        printer: &mut Printer,
    ) -> Result<bool, CommandError> {
        let mut newest: Vec<Entry> = self.waiting().rev().take(limit).cloned().collect();
        let mut more = self.waiting().count() > limit;
        store.newest_first(&self.filter, |_, entry| {
            if more {
                return ControlFlow::Break(());
            }
            if self.words.match_in(entry.cmd.as_ref()) {
                more = newest.len() == limit;
                if !more {
                    newest.push(entry);
                }
            }
            stop_if(more)
        })?;
        for entry in newest.iter().rev() {
            printer.print(entry)?;
        }
        Ok(more)
    }
}

fn stop_if(stop: bool) -> ControlFlow<()> {
    if stop {
        ControlFlow::Break(())
    } else {
        ControlFlow::Continue(())
    }
}

/// Words that must all occur. A word without upper case matches either case.
struct Words(Vec<(Vec<u8>, bool)>);

impl Words {
    fn new(query: &[String]) -> Words {
        let words = query.iter().flat_map(|text| text.split_whitespace());
        Words(
            words
                .map(|word| {
                    let exact = word.chars().any(char::is_uppercase);
                    (word.as_bytes().to_vec(), exact)
                })
                .collect(),
        )
    }

    fn match_in(&self, cmd: &BStr) -> bool {
        let mut lower = None;
        self.0.iter().all(|(word, exact)| {
            if *exact {
                cmd.as_bytes().contains_str(word)
            } else {
                lower
                    .get_or_insert_with(|| cmd.to_str_lossy().to_lowercase())
                    .as_bytes()
                    .contains_str(word)
            }
        })
    }
}

/// Writes entries as lines for eyes, or as JSON.
struct Printer {
    out: Output,
    json: bool,
    on_terminal: bool,
    zone: TimeZone,
}

impl Printer {
    fn new(json: bool) -> Printer {
        Printer {
            out: Output::new(),
            json,
            on_terminal: std::io::stdout().is_terminal(),
            zone: TimeZone::system(),
        }
    }

    fn print(&mut self, entry: &Entry) -> Result<(), CommandError> {
        if self.json {
            let json = serde_json::to_string(&EntryJson(entry))
                .map_err(|err| CommandError::failed(format!("writing JSON: {err}")))?;
            return self.out.line(json);
        }
        let exit = entry
            .exit_code
            .map_or_else(|| "-".to_owned(), |code| code.to_string());
        let took = entry
            .duration_ms
            .map_or_else(|| "-".to_owned(), when::duration);
        let time = when::local(entry.ts, &self.zone);
        self.out
            .bytes(format!("{time}  {exit:>3}  {took:>6}  ").as_bytes())?;
        if self.on_terminal {
            let indent = format!("\n{:34}", "");
            let cmd = visible(entry.cmd.as_ref(), Breaks::Keep).replace('\n', &indent);
            return self.out.line(cmd);
        }
        self.out.bytes(&entry.cmd)?;
        self.out.bytes(b"\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(query: &str, cmd: &str) -> bool {
        Words::new(&[query.to_owned()]).match_in(cmd.into())
    }

    #[test]
    fn all_words_must_occur_in_any_order() {
        assert!(matches("push git", "git push origin"));
        assert!(!matches("git pull", "git push"));
        assert!(matches("", "anything"));
    }

    #[test]
    fn case_matters_only_where_it_was_typed() {
        assert!(matches("readme", "vim README.md"));
        assert!(!matches("Readme", "vim README.md"));
        assert!(matches("커밋", "git commit -m '첫 커밋'"));
    }

    #[test]
    fn directories_are_as_a_shell_shows_them() {
        let dir = |path: &str| directory(Path::new(path)).unwrap();
        assert_eq!(dir("/a/b/"), "/a/b");
        assert_eq!(dir("/a/./b/../c"), "/a/c");
        assert_eq!(dir("/"), "/");
    }
}
