//! `rr export`.

use rustory_core::IngestSeq;
use rustory_core::json::EntryJson;
use rustory_core::limits::BATCH_ENTRIES_MAX;
use rustory_store::{Access, Store};

use crate::ctx::Ctx;
use crate::drain;
use crate::error::CommandError;
use crate::ui::Output;

/// Write all entries as JSON lines, in the order in which they came into the log
#[derive(Debug, clap::Args)]
#[command(after_help = "`rr import jsonl` reads it back, losslessly.")]
pub(crate) struct Args {
    /// JSON lines, which is what it writes anyway
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(_args: Args, ctx: &Ctx) -> Result<(), CommandError> {
    let store = open(ctx)?;
    let mut out = Output::new();
    let mut after = IngestSeq::ZERO;
    let mut line = Vec::new();
    while !out.is_closed() {
        let batch = store.read_after(after, BATCH_ENTRIES_MAX)?;
        let Some(last) = batch.last else { break };
        for entry in &batch.entries {
            line.clear();
            serde_json::to_writer(&mut line, &EntryJson(entry))
                .map_err(|err| CommandError::failed(format!("entry {}: {err}", entry.id)))?;
            line.push(b'\n');
            out.bytes(&line)?;
        }
        after = last;
    }
    out.finish()
}

/// With everything that was typed up to now; where the log can't be written, without what still
/// waits in the spool, which is told.
fn open(ctx: &Ctx) -> Result<Store, CommandError> {
    let path = &ctx.settings.db_path;
    let device_id = ctx.settings.device_id.as_deref();
    let mut store = match Store::open(path, Access::PATIENT, device_id) {
        Err(err) if err.is_about_writing() => Store::open(path, Access::Read, device_id)?,
        opened => opened?,
    };
    let waiting = drain::drain_or_peek(ctx, &mut store)?.len();
    if waiting > 0 {
        ctx.note(format_args!(
            "{waiting} commands wait in the spool and are not in the export"
        ));
    }
    Ok(store)
}
