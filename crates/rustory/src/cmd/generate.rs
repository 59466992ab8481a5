//! `rr generate`: completions and the man page, from the definitions of the commands themselves.

use std::fs;
use std::path::{Path, PathBuf};

use clap::{CommandFactory as _, Subcommand};
use clap_complete::Shell;

use crate::cli::Cli;
use crate::ctx::Ctx;
use crate::error::CommandError;
use crate::ui::Output;

/// Print or install shell completions and the man page
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    rr generate completions bash > ~/.local/share/bash-completion/completions/rr\n  \
    rr generate man > ~/.local/share/man/man1/rr.1\n  \
    rr generate share ~/.local/share")]
pub(crate) struct Args {
    #[command(subcommand)]
    what: What,
}

/// The names that the program is installed under.
const NAMES: [&str; 2] = ["rr", "rustory"];

#[derive(Debug, Subcommand)]
enum What {
    /// Print completions for a shell
    Completions {
        shell: Shell,
        /// The name that the program is called by
        #[arg(long, default_value = NAMES[0], value_parser = NAMES)]
        name: String,
    },
    /// Print the man page
    Man,
    /// Write the man page and the completions for bash, zsh and fish, for both names of the program
    Share {
        /// Below which directory: that of the system is /usr/local/share
        dir: PathBuf,
    },
}

pub(crate) fn run(args: Args, _ctx: &Ctx) -> Result<(), CommandError> {
    let page = match args.what {
        What::Completions { shell, name } => completions(shell, &name),
        What::Man => man()?,
        What::Share { dir } => return share(&dir),
    };
    let mut out = Output::new();
    out.bytes(&page)?;
    out.finish()
}

fn completions(shell: Shell, name: &str) -> Vec<u8> {
    let mut page = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), name, &mut page);
    page
}

/// Where each program looks for what was installed.
fn share(dir: &Path) -> Result<(), CommandError> {
    for name in NAMES {
        for (shell, place) in [
            (Shell::Bash, format!("bash-completion/completions/{name}")),
            (Shell::Zsh, format!("zsh/site-functions/_{name}")),
            (
                Shell::Fish,
                format!("fish/vendor_completions.d/{name}.fish"),
            ),
        ] {
            write(&dir.join(place), &completions(shell, name))?;
        }
    }
    write(&dir.join("man/man1/rr.1"), &man()?)?;
    write(&dir.join("man/man1/rustory.1"), b".so man1/rr.1\n")
}

fn write(path: &Path, page: &[u8]) -> Result<(), CommandError> {
    let dir = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(dir)
        .and_then(|()| fs::write(path, page))
        .map_err(|err| CommandError::failed(format!("`{}`: {err}", path.display())))
}

fn man() -> Result<Vec<u8>, CommandError> {
    let mut page = Vec::new();
    render_man(&mut page)
        .map_err(|err| CommandError::failed(format!("writing the man page: {err}")))?;
    Ok(page)
}

/// One page: the program, then each command.
fn render_man(page: &mut Vec<u8>) -> std::io::Result<()> {
    let mut cli = Cli::command();
    cli.build();
    clap_mangen::Man::new(cli.clone()).render(page)?;
    for command in cli
        .get_subcommands()
        .filter(|command| command.get_name() != "help")
    {
        let title = format!("rr {}", command.get_name()).to_uppercase();
        page.extend_from_slice(format!(".SH \"{title}\"\n").as_bytes());
        let man = clap_mangen::Man::new(command.clone());
        man.render_synopsis_section(page)?;
        man.render_description_section(page)?;
        if command.get_arguments().next().is_some() {
            man.render_options_section(page)?;
        }
    }
    Ok(())
}
