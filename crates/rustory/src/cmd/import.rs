//! `rr import`.

use std::path::{Path, PathBuf};

use clap::ValueEnum;
use rustory_store::Access;

use crate::ctx::Ctx;
use crate::error::CommandError;
use crate::import::{self, Format, Report, Run, Source};
use crate::ui::Output;

/// Take over existing history; again adds only what is new
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    rr import auto                what is found of bash, zsh, fish, atuin and hishtory\n  \
    rr import zsh --path /mnt/old/.zsh_history\n  \
    rr export > all.jsonl; rr import jsonl --path all.jsonl")]
pub(crate) struct Args {
    /// What to read
    #[arg(value_name = "auto|bash|zsh|fish|atuin|hishtory|jsonl", value_parser = parse_what)]
    what: What,
    /// The file [default: where the program keeps it; for jsonl: stdin]
    #[arg(long, value_name = "FILE")]
    path: Option<PathBuf>,
    /// Go through everything, write nothing
    #[arg(long)]
    dry_run: bool,
    /// What was done as JSON, a line for each source
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    Auto,
    One(Format),
}

fn parse_what(text: &str) -> Result<What, String> {
    if text == "auto" {
        return Ok(What::Auto);
    }
    Format::from_str(text, false)
        .map(What::One)
        .map_err(|_| "expected auto, bash, zsh, fish, atuin, hishtory or jsonl".to_owned())
}

/// What `rr setup` does: everything that is found. Returns how many entries are new.
pub(crate) fn auto(ctx: &Ctx) -> Result<u64, CommandError> {
    let args = Args {
        what: What::Auto,
        path: None,
        dry_run: false,
        json: false,
    };
    import(&args, ctx)
}

pub(crate) fn run(args: Args, ctx: &Ctx) -> Result<(), CommandError> {
    import(&args, ctx).map(drop)
}

fn import(args: &Args, ctx: &Ctx) -> Result<u64, CommandError> {
    let sources = sources(args)?;
    let mut out = Output::new();
    if sources.is_empty() {
        ctx.note("no history of bash, zsh, fish, atuin or hishtory found: nothing to import");
        return Ok(0);
    }
    let mut store = ctx.open(Access::PATIENT)?;
    let mut run = Run::new(ctx, &mut store, args.dry_run);
    let (mut failed, mut new) = (None, 0);
    for source in sources {
        match source.format.import(&mut run, &source.path) {
            Ok(report) => {
                new += report.new;
                tell(&report, args, ctx, &mut out)?;
            }
            // One that can't be read does not keep the others out.
            Err(err) => {
                if let Some(earlier) = failed.replace(err) {
                    let _ = crate::error::report(&earlier);
                }
            }
        }
    }
    out.finish()?;
    failed.map_or(Ok(new), Err)
}

fn sources(args: &Args) -> Result<Vec<Source>, CommandError> {
    let format = match (args.what, &args.path) {
        (What::Auto, None) => return Ok(import::found()),
        (What::Auto, Some(_)) => {
            return Err(
                CommandError::usage("`--path` needs to know what the file is")
                    .hint("say `rr import zsh --path FILE`, for example"),
            );
        }
        (What::One(format), _) => format,
    };
    let path = match &args.path {
        Some(path) => path.clone(),
        None if format == Format::Jsonl => PathBuf::from("-"),
        None => import::default_path(format).map_err(|looked| nowhere(format, &looked))?,
    };
    Ok(vec![Source { format, path }])
}

fn nowhere(format: Format, looked: &[PathBuf]) -> CommandError {
    let looked: Vec<String> = looked
        .iter()
        .map(|path| format!("`{}`", path.display()))
        .collect();
    CommandError::failed(format!(
        "no history of {} found: looked for {}",
        format.name(),
        looked.join(", ")
    ))
    .hint("say where it lies with `--path`")
}

fn tell(report: &Report, args: &Args, ctx: &Ctx, out: &mut Output) -> Result<(), CommandError> {
    if args.json {
        return out.line(report.json(args.dry_run));
    }
    for (line, why) in &report.unreadable {
        ctx.note(format_args!(
            "{}: line {line}: {why}",
            report.path.display()
        ));
    }
    if ctx.quiet {
        return Ok(());
    }
    let home = std::env::home_dir().unwrap_or_default();
    out.line(report.sentence(Path::new(&home), args.dry_run))
}
