//! `rr verify`: proves that what is stored is what was stored, and mends what is not.

use std::time::Duration;

use rustory_store::{Access, Store, VerifyReport};
use serde_json::json;

use crate::cmd::sync::{Exchange, addresses};
use crate::ctx::Ctx;
use crate::drain;
use crate::error::CommandError;
use crate::host::Manner;
use crate::ui::{Output, Progress, grouped};

/// Prove that what is stored is what was stored; with PEER, that both hold the same
#[derive(Debug, clap::Args)]
#[command(
    long_about = "Read every entry and compare it with what was counted when it was stored: entries that the disk lost or \
                  changed are found and named.\n\n\
                  With PEER, compare with that device entry by entry, whatever was known before, fetch what is missing or \
                  damaged here and send what is missing there. Without, what was lost is counted as missing, so that the \
                  next sync fetches it from whoever has it.\n\n\
                  Exit code 1: damage was found that is not mended yet.",
    after_help = "Examples:\n  \
        rr verify\n  \
        rr verify ssh:desk"
)]
pub(crate) struct Args {
    /// `ssh:HOST`, `http://HOST:PORT`, or the name of a device that was met before
    #[arg(value_name = "PEER")]
    peer: Option<String>,
    /// Give up connecting after this many seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=3600))]
    timeout: u64,
    /// As one JSON object
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: Args, ctx: &Ctx) -> Result<(), CommandError> {
    let mut store = ctx.open(Access::PATIENT)?;
    drain::drain(ctx, &mut store)?;
    let found = read(ctx, &store)?;
    if !args.json {
        tell(ctx, &found);
    }
    let damaged = found.damaged();
    let Some(peer) = &args.peer else {
        if !damaged.is_empty() {
            store.recount(&damaged)?;
        }
        if args.json {
            print(json!({"local": local_json(&found)}))?;
        }
        return match found.is_sound() {
            true => Ok(()),
            false => Err(damage(
                &found,
                "`rr sync` or `rr verify PEER` fetches it from a device that has it",
            )),
        };
    };
    let addrs = addresses(&store, Some(peer))?;
    let manner = Manner {
        verifies: true,
        ..Manner::default()
    };
    let timeout = Duration::from_secs(args.timeout);
    for addr in &addrs {
        let (exchange, back) = Exchange::run(ctx, store, addr, timeout, manner)?;
        store = back;
        let exchange = exchange?;
        match args.json {
            true => print(json!({"local": local_json(&found), "peer": exchange.json(&store)?}))?,
            false => exchange.tell(ctx, &store)?,
        }
        if !exchange.is_identical() {
            return Err(CommandError::failed("the two do not hold the same yet")
                .hint("run it again; if it stays so, `rr verify` on the other device looks for damage there"));
        }
    }
    match found.problems.is_empty() {
        true => Ok(()),
        false => Err(damage(&found, REBUILD)),
    }
}

/// For damage that no row can mend.
const REBUILD: &str =
    "move the database away: other devices send what they have, and new commands wait in the spool";

fn read(ctx: &Ctx, store: &Store) -> Result<VerifyReport, CommandError> {
    let mut progress = Progress::new(ctx.quiet);
    Ok(store.verify(|rows, of| {
        progress.update(|| format!("read {} of {} entries", grouped(rows), grouped(of)));
    })?)
}

fn tell(ctx: &Ctx, found: &VerifyReport) {
    for problem in &found.problems {
        crate::ui::warn(format_args!("the database file is damaged: {problem}"));
    }
    for origin in found.origins.iter().filter(|origin| !origin.is_sound()) {
        let (was, is) = (origin.stored.count, origin.found.count);
        crate::ui::warn(match was.cmp(&is) {
            std::cmp::Ordering::Greater => format!(
                "{}: the disk lost {} of {} entries",
                origin.device_id,
                grouped(was - is),
                grouped(was)
            ),
            std::cmp::Ordering::Less => format!(
                "{}: {} entries are there that were not counted",
                origin.device_id,
                grouped(is - was)
            ),
            std::cmp::Ordering::Equal => {
                format!("{}: the disk changed one or more entries", origin.device_id)
            }
        });
    }
    if !found.unreadable.is_empty() {
        crate::ui::warn(format_args!(
            "{} entries can't be read any more",
            grouped(found.unreadable.len() as u64)
        ));
    }
    if found.is_sound() {
        let rows = grouped(found.rows);
        ctx.note(format_args!(
            "{rows} entries read: every one is what was stored"
        ));
    }
}

fn local_json(found: &VerifyReport) -> serde_json::Value {
    json!({
        "entries": found.rows,
        "sound": found.is_sound(),
        "damaged": found.damaged(),
        "unreadable": found.unreadable.len(),
        "problems": found.problems,
    })
}

fn print(value: serde_json::Value) -> Result<(), CommandError> {
    let mut out = Output::new();
    out.line(value)?;
    out.finish()
}

fn damage(found: &VerifyReport, hint: &str) -> CommandError {
    let origins = found.damaged().len();
    let told = CommandError::failed(match origins {
        0 => "the database is damaged".to_owned(),
        1 => "entries of one device are damaged or lost".to_owned(),
        n => format!("entries of {n} devices are damaged or lost"),
    });
    told.hint(match found.problems.is_empty() {
        true => hint,
        false => REBUILD,
    })
}
