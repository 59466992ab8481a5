//! `rr generate`: completions and the man page, from the definitions of the commands themselves.

use clap::{CommandFactory as _, Subcommand};
use clap_complete::Shell;

use crate::cli::Cli;
use crate::ctx::Ctx;
use crate::error::CommandError;
use crate::ui::Output;

/// Print shell completions or the man page
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    rr generate completions bash > ~/.local/share/bash-completion/completions/rr\n  \
    rr generate man > ~/.local/share/man/man1/rr.1")]
pub(crate) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Print completions for a shell
    Completions {
        shell: Shell,
        /// The name that the program is called by
        #[arg(long, default_value = "rr", value_parser = ["rr", "rustory"])]
        name: String,
    },
    /// Print the man page
    Man,
}

pub(crate) fn run(args: Args, _ctx: &Ctx) -> Result<(), CommandError> {
    let mut page = Vec::new();
    match args.what {
        What::Completions { shell, name } => {
            clap_complete::generate(shell, &mut Cli::command(), name, &mut page);
        }
        What::Man => man(&mut page)
            .map_err(|err| CommandError::failed(format!("writing the man page: {err}")))?,
    }
    let mut out = Output::new();
    out.bytes(&page)?;
    out.finish()
}

/// One page: the program, then each command.
fn man(page: &mut Vec<u8>) -> std::io::Result<()> {
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
