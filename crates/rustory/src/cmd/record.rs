//! `rr record`: for scripts and for shells without a hook of ours. Never the command in argv.

use std::io::Read as _;
use std::path::PathBuf;

use bstr::{BString, ByteVec as _};
use rustory_core::json::PartialEntry;
use rustory_core::limits::CMD_BYTES_MAX;
use rustory_core::{Entry, EntryId, Timestamp};
use rustory_store::{Access, Appended, StoreError};

use crate::ctx::Ctx;
use crate::error::CommandError;
use crate::{drain, when};

/// Add an entry from stdin
#[derive(Debug, clap::Args)]
#[command(
    long_about = "Add an entry from stdin: the command itself, with its context as options, or one entry as \
                  JSON.\n\nThe command is never an argument, where `ps` would show it. Secrets in it are masked.",
    after_help = "Examples:\n  \
        printf %s \"make test\" | rr record --exit 2 --cwd \"$PWD\"\n  \
        echo '{\"cmd\":\"make test\",\"exit_code\":2}' | rr record --json"
)]
pub(crate) struct Args {
    /// Stdin is one entry as JSON; only `cmd` is needed
    #[arg(long, conflicts_with_all = ["cwd", "exit", "duration_ms", "shell", "session", "start"])]
    json: bool,
    /// The directory in which it was typed [default: the current one]
    #[arg(long, value_name = "DIR")]
    cwd: Option<PathBuf>,
    /// Its exit status
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    exit: Option<i64>,
    /// How long it ran, in milliseconds
    #[arg(long, value_name = "MS")]
    duration_ms: Option<u64>,
    /// The shell
    #[arg(long, value_name = "NAME", default_value = "")]
    shell: String,
    /// Names the interactive shell that it was typed in
    #[arg(long, value_name = "SESSION", default_value = "")]
    session: String,
    /// When it started [default: now]
    #[arg(long, value_name = "TIME", value_parser = when::parse_arg)]
    start: Option<Timestamp>,
}

pub(crate) fn run(args: Args, ctx: &Ctx) -> Result<(), CommandError> {
    let stdin = read_stdin()?;
    if std::env::var_os("RUSTORY_RECORD").is_some_and(|value| value == "0") {
        ctx.note("not recorded: `RUSTORY_RECORD` is 0");
        return Ok(());
    }
    let partial = if args.json {
        from_json(&stdin)?
    } else {
        from_args(args, stdin)?
    };
    let mut store = ctx.open(Access::PATIENT)?;
    let own_id = store.identity().device_id.clone();
    let entry = with_defaults(partial, ctx, &own_id)
        .into_entry()
        .map_err(|err| CommandError::usage(format!("stdin is no entry: {err}")))?;
    let entry = match ctx.settings.rules.recorded(&entry.cmd, &entry.cwd) {
        Ok(cmd) => Entry {
            cmd: cmd.into_owned().into(),
            ..entry
        },
        Err(skip) => {
            ctx.note(format_args!("not recorded: {skip}"));
            return Ok(());
        }
    };
    let new = store.write(|writer| -> Result<bool, StoreError> {
        if entry.device_id == own_id {
            Ok(writer.append(&entry)? != Appended::Known)
        } else {
            writer.insert(&entry)
        }
    })?;
    if !new {
        ctx.note("an entry with this id is there already");
    }
    Ok(())
}

/// JSON around a largest command is at most this much longer (six bytes for one, and the rest).
const STDIN_BYTES_MAX: usize = 6 * CMD_BYTES_MAX + 64 * 1024;

fn read_stdin() -> Result<Vec<u8>, CommandError> {
    let mut stdin = Vec::new();
    std::io::stdin()
        .take(STDIN_BYTES_MAX as u64 + 1)
        .read_to_end(&mut stdin)
        .map_err(|err| CommandError::failed(format!("reading stdin: {err}")))?;
    if stdin.len() > STDIN_BYTES_MAX {
        return Err(CommandError::usage(format!(
            "stdin has more than {STDIN_BYTES_MAX} bytes; a command has at most {CMD_BYTES_MAX}"
        )));
    }
    Ok(stdin)
}

fn from_json(stdin: &[u8]) -> Result<PartialEntry, CommandError> {
    serde_json::from_slice(stdin)
        .map_err(|err| CommandError::usage(format!("stdin is no entry: {err}")))
}

/// A line end that `echo` or a here-string adds is not part of the command.
fn from_args(args: Args, mut stdin: Vec<u8>) -> Result<PartialEntry, CommandError> {
    if stdin.last() == Some(&b'\n') {
        stdin.pop();
    }
    let cwd = match args.cwd {
        Some(dir) => std::path::absolute(&dir)
            .map_err(|err| CommandError::usage(format!("--cwd `{}`: {err}", dir.display())))?,
        // A directory that was removed has no name; that is no reason to lose the command.
        None => std::env::current_dir().unwrap_or_default(),
    };
    Ok(PartialEntry {
        cmd: Some(stdin.into()),
        cwd: Vec::from_path_buf(cwd).ok().map(BString::from),
        exit_code: args.exit,
        duration_ms: args.duration_ms,
        shell: Some(args.shell),
        session: Some(args.session),
        ts: args.start,
        ..PartialEntry::default()
    })
}

/// What the caller left out, as the hook would have it.
fn with_defaults(partial: PartialEntry, ctx: &Ctx, own_id: &str) -> PartialEntry {
    let stamp = drain::stamp(ctx);
    let ts = partial.ts.unwrap_or(stamp.now);
    PartialEntry {
        id: partial
            .id
            .or_else(|| Some(EntryId::from_time_and_random(ts, rustory_store::random()))),
        device_id: partial.device_id.or_else(|| Some(own_id.to_owned())),
        user_id: partial.user_id.or(Some(stamp.user_id)),
        ts: Some(ts),
        hostname: partial.hostname.or(Some(stamp.hostname)),
        version: partial.version.or(Some(stamp.version)),
        ..partial
    }
}
