//! `rr stats`: what the log holds, counted.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use bstr::{BString, ByteSlice as _};
use hashbrown::HashMap;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use rustory_core::Entry;
use serde_json::json;

use crate::cmd::list::FilterArgs;
use crate::ctx::Ctx;
use crate::drain;
use crate::error::CommandError;
use crate::text::{Breaks, visible};
use crate::ui::Output;

/// Counts, top commands, by device and day
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    filter: FilterArgs,
    /// How many top commands and latest days to show
    #[arg(short = 'n', long, value_name = "N", default_value_t = 10)]
    limit: usize,
    /// As one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Default)]
struct Stats {
    entries: u64,
    failed: u64,
    commands: HashMap<BString, u64>,
    programs: HashMap<BString, u64>,
    /// By device id: its last host name, and its entries.
    devices: BTreeMap<String, (String, u64)>,
    days: BTreeMap<Date, u64>,
}

impl Stats {
    fn count(&mut self, entry: Entry, zone: &TimeZone) {
        self.entries += 1;
        self.failed += u64::from(entry.exit_code.is_some_and(|code| code != 0));
        if let Some(program) = entry
            .cmd
            .split(u8::is_ascii_whitespace)
            .find(|word| !word.is_empty())
        {
            *self.programs.entry_ref(program.as_bstr()).or_default() += 1;
        }
        if !entry.ts.is_unknown() {
            let day = entry.ts.to_jiff().to_zoned(zone.clone()).date();
            *self.days.entry(day).or_default() += 1;
        }
        let device = self.devices.entry(entry.device_id).or_default();
        device.0 = entry.hostname;
        device.1 += 1;
        *self.commands.entry(entry.cmd).or_default() += 1;
    }
}

pub(crate) fn run(args: Args, ctx: &Ctx) -> Result<(), CommandError> {
    let mut store = ctx.open_for_search()?;
    drain::drain_or_peek(ctx, &mut store)?;
    let filter = args.filter.filter(&store.identity().device_id)?;
    let mut stats = Stats::default();
    let zone = TimeZone::system();
    store.oldest_first(&filter, |_, entry| {
        stats.count(entry, &zone);
        ControlFlow::Continue(())
    })?;
    let mut out = Output::new();
    if args.json {
        out.line(as_json(&stats, args.limit))?;
    } else {
        print(&stats, args.limit, &mut out)?;
    }
    out.finish()
}

/// The most frequent first; equal counts in the order of their text, so that runs agree.
fn top(counts: &HashMap<BString, u64>, limit: usize) -> Vec<(&BString, u64)> {
    let mut all: Vec<(&BString, u64)> = counts.iter().map(|(text, &n)| (text, n)).collect();
    all.sort_unstable_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(b.0)));
    all.truncate(limit);
    all
}

fn as_json(stats: &Stats, limit: usize) -> serde_json::Value {
    let tops = |counts| -> Vec<_> {
        top(counts, limit)
            .into_iter()
            .map(|(text, count)| json!({"cmd": text.to_str_lossy(), "count": count}))
            .collect()
    };
    let devices: Vec<_> = stats
        .devices
        .iter()
        .map(|(id, (host, n))| json!({"device_id": id, "hostname": host, "entries": n}))
        .collect();
    let days: Vec<_> = stats
        .days
        .iter()
        .map(|(day, n)| json!({"day": day.to_string(), "entries": n}))
        .collect();
    json!({
        "entries": stats.entries,
        "failed": stats.failed,
        "distinct_commands": stats.commands.len(),
        "top_commands": tops(&stats.commands),
        "top_programs": tops(&stats.programs),
        "devices": devices,
        "days": days,
    })
}

fn print(stats: &Stats, limit: usize, out: &mut Output) -> Result<(), CommandError> {
    out.line(format_args!(
        "{} entries, {} distinct commands, {} failed",
        stats.entries,
        stats.commands.len(),
        stats.failed
    ))?;
    for (title, counts) in [
        ("top commands", &stats.commands),
        ("top programs", &stats.programs),
    ] {
        out.line(format_args!("\n{title}"))?;
        for (text, n) in top(counts, limit) {
            let shown = visible(text.as_ref(), Breaks::Mark);
            let shown: String = shown.chars().take(100).collect();
            out.line(format_args!("{n:>9}  {shown}"))?;
        }
    }
    out.line("\ndevices")?;
    for (id, (host, n)) in &stats.devices {
        out.line(format_args!("{n:>9}  {host}  {id}"))?;
    }
    out.line("\nlatest days")?;
    let skipped = stats.days.len().saturating_sub(limit);
    for (day, n) in stats.days.iter().skip(skipped) {
        out.line(format_args!("{n:>9}  {day}"))?;
    }
    Ok(())
}
