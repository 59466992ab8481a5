//! `rr key`: makes key files, and shows what can be told of them.

use std::path::PathBuf;

use rustory_net::p2p::{IdentityKey, KeyFileError, SwarmKey};

use crate::ctx::Ctx;
use crate::error::CommandError;
use crate::keys;
use crate::ui::Output;

/// Make a key file, or show what can be told of one
#[derive(Debug, clap::Args)]
#[command(
    long_about = "Make a key file, readable by its owner alone, or show what can be told of one that is there.\n\n\
                  The swarm key is shared by all of a person's devices and hubs; who has it reads everything. The identity \
                  key is one device's or one hub's own: its public half is the peer id.",
    after_help = "Examples:\n  \
        rr key swarm                        # on the first device; copy the file to the others\n  \
        rr key identity hub.key             # for `rr hub --identity-key hub.key`\n  \
        rr key show"
)]
pub(crate) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Make a swarm key and print its fingerprint
    Swarm {
        /// The file [default: the one of `swarm_key_path`]
        file: Option<PathBuf>,
    },
    /// Make an identity key and print its peer id
    Identity {
        /// The file [default: the one of `identity_key_path`]
        file: Option<PathBuf>,
    },
    /// Print this device's peer id and the swarm key's fingerprint
    Show,
}

pub(crate) fn run(args: Args, ctx: &Ctx) -> Result<(), CommandError> {
    let settings = &ctx.settings;
    let mut out = Output::new();
    match args.what {
        What::Swarm { file } => {
            let key = SwarmKey::generate()?;
            make(file.as_ref().unwrap_or(&settings.swarm_key_path), |path| {
                key.create(path)
            })?;
            out.line(key.fingerprint())?;
        }
        What::Identity { file } => {
            let key = IdentityKey::generate()?;
            make(
                file.as_ref().unwrap_or(&settings.identity_key_path),
                |path| key.create(path),
            )?;
            out.line(key.peer_id())?;
        }
        What::Show => {
            let identity = IdentityKey::load(&settings.identity_key_path);
            let identity = identity.map(|key| key.peer_id().to_string());
            out.line(format_args!("peer id    {}", shown(identity)))?;
            let swarm = keys::swarm(&settings.swarm_key_path)?;
            out.line(format_args!("swarm key  {}", swarm.fingerprint()))?;
        }
    }
    out.finish()
}

fn shown(id: Result<String, KeyFileError>) -> String {
    id.unwrap_or_else(|err| format!("none yet ({err})"))
}

fn make(
    path: &std::path::Path,
    create: impl FnOnce(&std::path::Path) -> Result<(), KeyFileError>,
) -> Result<(), CommandError> {
    keys::make_private_dir(path)?;
    create(path).map_err(|err| {
        let exists = matches!(err, KeyFileError::Exists { .. });
        let told = CommandError::from(err);
        match exists {
            true => told.hint("a key is never overwritten; move it away first if you mean it"),
            false => told,
        }
    })
}
