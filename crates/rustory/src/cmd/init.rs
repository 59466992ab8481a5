//! `rr init`: prints the shell integration, to be evaluated by the shell's rc file.

use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use bstr::ByteSlice as _;
use clap::ValueEnum;
use rustory_store::spool_dir;

use crate::ctx::Ctx;
use crate::error::CommandError;
use crate::ui::Output;

/// Print the shell integration: eval "$(rr init bash)"
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    eval \"$(rr init bash)\"    in ~/.bashrc\n  \
    eval \"$(rr init zsh)\"     in ~/.zshrc\n  \
    rr init fish | source      in ~/.config/fish/config.fish")]
pub(crate) struct Args {
    shell: Shell,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Shell {
    Bash,
    Zsh,
    Fish,
}

impl Shell {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Shell::Bash => "bash",
            Shell::Zsh => "zsh",
            Shell::Fish => "fish",
        }
    }

    /// In single quotes, as this shell reads them.
    pub(crate) fn quoted(self, path: &Path) -> Vec<u8> {
        let bytes = path.as_os_str().as_bytes();
        match self {
            Shell::Fish => {
                let escaped = bytes.replace(r"\", r"\\").replace("'", r"\'");
                [b"'".as_slice(), &escaped, b"'"].concat()
            }
            _ => quoted(path),
        }
    }

    fn template(self) -> &'static str {
        match self {
            Shell::Bash => include_str!("../../shell/rr.bash"),
            Shell::Zsh => include_str!("../../shell/rr.zsh"),
            Shell::Fish => include_str!("../../shell/rr.fish"),
        }
    }
}

pub(crate) fn run(args: Args, ctx: &Ctx) -> Result<(), CommandError> {
    spool_dir::create(&ctx.spool_dir())?;
    let mut out = Output::new();
    out.bytes(&integration(
        args.shell,
        &own_path()?,
        &absolute(&ctx.spool_dir())?,
    ))?;
    out.finish()
}

/// The integration with the paths filled in, each quoted for the shell.
fn integration(shell: Shell, rr: &Path, spool: &Path) -> Vec<u8> {
    shell
        .template()
        .as_bytes()
        .replace("@RR@", shell.quoted(rr))
        .replace("@SPOOL@", shell.quoted(spool))
}

/// In single quotes, as bash and zsh read them.
pub(crate) fn quoted(path: &Path) -> Vec<u8> {
    let escaped = path.as_os_str().as_bytes().replace("'", r"'\''");
    [b"'".as_slice(), &escaped, b"'"].concat()
}

/// The path of the binary that runs: Debian has another program called `rr`.
pub(crate) fn own_path() -> Result<std::path::PathBuf, CommandError> {
    std::env::current_exe()
        .map_err(|err| CommandError::failed(format!("can't tell where rr itself lies: {err}")))
}

fn absolute(path: &Path) -> Result<std::path::PathBuf, CommandError> {
    std::path::absolute(path)
        .map_err(|err| CommandError::failed(format!("`{}`: {err}", path.display())))
}
