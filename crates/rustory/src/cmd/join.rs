//! `rr join`: takes part in the swarm of another device, by the code that `rr pair` shows there.

use std::collections::BTreeSet;
use std::io::{self, BufRead as _, IsTerminal as _, Read as _, Write as _};
use std::time::{Duration, Instant};

use rustory_core::pairing::{CodeError, Invitation};
use rustory_net::p2p::{IdentityKey, SwarmKey};
use rustory_store::{Access, Store};
use serde_json::{Value, json};

use crate::cmd::pair::tell_came;
use crate::ctx::Ctx;
use crate::daemon::{self, PeerState, control};
use crate::error::CommandError;
use crate::keys;
use crate::pairing::{self, Welcome};
use crate::text::{Breaks, visible};
use crate::ui::{Output, Progress, grouped, say, warn};

/// Take part in another device's swarm, with the code that `rr pair` shows there
#[derive(Debug, clap::Args)]
#[command(
    long_about = "Take part in another device's swarm, with the code that `rr pair` shows there: keeps its key, has the \
                  daemon run, and says who is there and what has come.\n\n\
                  Without CODE it is asked for, or read from a pipe. That is the better way: arguments can be seen by \
                  other users of this machine, and stay in the shell's history, and the code has the swarm's key in it.",
    after_help = "Examples:\n  \
        rr join                       # asks for the code\n  \
        ssh desk rr pair | rr join -  # reads it from a pipe"
)]
pub(crate) struct Args {
    /// The code; `-` reads it from stdin
    #[arg(value_name = "CODE")]
    code: Vec<String>,
    /// Leave the swarm in which this device is, without asking
    #[arg(short, long)]
    yes: bool,
    /// Start the daemon in the background rather than as a service
    #[arg(long)]
    no_service: bool,
    /// Give up waiting for another device after this many seconds
    #[arg(long, value_name = "SECONDS", default_value_t = TIMEOUT_DEFAULT, value_parser = clap::value_parser!(u64).range(1..=3600))]
    timeout: u64,
    /// What came of it, as one JSON object
    #[arg(long)]
    json: bool,
}

/// A device of the swarm answers within this, or is not there: seconds. A hub that is dialled and
/// dialled again takes a part of it.
const TIMEOUT_DEFAULT: u64 = 30;

pub(crate) fn run(args: Args, ctx: &Ctx) -> Result<(), CommandError> {
    let invitation = read_code(&args.code)?;
    join(&args, ctx, &invitation)
}

/// The same as a step of `rr setup`.
pub(crate) fn step(
    ctx: &Ctx,
    invitation: &Invitation,
    yes: bool,
    no_service: bool,
) -> Result<(), CommandError> {
    let args = Args {
        code: Vec::new(),
        yes,
        no_service,
        timeout: TIMEOUT_DEFAULT,
        json: false,
    };
    join(&args, ctx, invitation)
}

fn join(args: &Args, ctx: &Ctx, invitation: &Invitation) -> Result<(), CommandError> {
    let joined = Joining::begin(ctx, invitation, args.yes)?.enter()?;
    joined.tell(ctx);
    tell_came(ctx, control::renew(ctx, !args.no_service)?);
    let came = Coming::watch(ctx, &joined, Duration::from_secs(args.timeout))?;
    if args.json {
        let mut out = Output::new();
        out.line(came.json(&joined))?;
        out.finish()?;
    }
    came.tell(ctx, &joined.welcome)
}

// ---- the code

pub(crate) fn read_code(args: &[String]) -> Result<Invitation, CommandError> {
    let stdin = io::stdin();
    let read = match args {
        [] if stdin.is_terminal() => return asked(),
        [] => from_pipe()?,
        [dash] if dash == "-" && stdin.is_terminal() => return asked(),
        [dash] if dash == "-" => from_pipe()?,
        // Copied with blanks in it.
        words => words.join(" "),
    };
    Invitation::from_code(&read).map_err(explained)
}

/// Much more than a code has.
const PIPE_BYTES_MAX: u64 = 64 * 1024;

fn from_pipe() -> Result<String, CommandError> {
    let mut text = Vec::new();
    io::stdin()
        .lock()
        .take(PIPE_BYTES_MAX)
        .read_to_end(&mut text)
        .map_err(|err| CommandError::failed(format!("reading stdin: {err}")))?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

fn asked() -> Result<Invitation, CommandError> {
    say("Run `rr pair` on a device that is in the swarm, and paste its code here.");
    ask_code()?.ok_or_else(CommandError::cancelled)
}

/// From a terminal: a code that was copied out of a narrow window comes in several lines. `None`:
/// only enter was pressed.
pub(crate) fn ask_code() -> Result<Option<Invitation>, CommandError> {
    let mut text = String::new();
    let mut prompt = "Code: ";
    loop {
        let _ = write!(io::stderr(), "{prompt}");
        let before = text.trim().len();
        let read = io::stdin().lock().read_line(&mut text);
        let is_over = read.map_or(true, |bytes| bytes == 0) || text.trim().len() == before;
        match Invitation::from_code(&text) {
            _ if text.trim().is_empty() => return Ok(None),
            Err(CodeError::Truncated { missing, of }) if !is_over => {
                say(format_args!(
                    "{missing} of its {of} characters are still missing; paste the rest, or press enter to give up"
                ));
                prompt = "      ";
            }
            read => return read.map(Some).map_err(explained),
        }
    }
}

/// With what to do about it.
fn explained(err: CodeError) -> CommandError {
    let hint = match &err {
        CodeError::NotACode => {
            "`rr pair` on a device that is in the swarm shows one; it begins with RR"
        }
        CodeError::Stray { .. } | CodeError::OneWrong { .. } | CodeError::Mistyped => {
            "copy it once more from the device that shows it; nothing was changed"
        }
        CodeError::Truncated { .. } => {
            "copy all of it, also what stands on the next lines; nothing was changed"
        }
        CodeError::TooLong { .. } => "copy the code alone; nothing was changed",
        CodeError::OtherVersion { .. } => {
            "install the newer rr on both devices, and run `rr pair` again"
        }
        CodeError::Unreadable => {
            "is the rr that made it newer than this one? install that one here too"
        }
    };
    CommandError::failed(err).hint(hint)
}

// ---- becoming a member

/// What there is to do.
struct Joining<'a> {
    ctx: &'a Ctx,
    welcome: Welcome,
    before: Option<SwarmKey>,
    store: Store,
}

/// What was done.
pub(crate) struct Joined {
    welcome: Welcome,
    /// The swarm that was left.
    left: Option<SwarmKey>,
    /// The label of entries from now on, where it is another one.
    user_id: Option<String>,
    was_member: bool,
}

impl<'a> Joining<'a> {
    /// Everything that may be refused, before anything is changed.
    fn begin(
        ctx: &'a Ctx,
        invitation: &Invitation,
        yes: bool,
    ) -> Result<Joining<'a>, CommandError> {
        let now = pairing::seconds_now();
        if invitation.is_expired(now) {
            return Err(expired(now - invitation.expires));
        }
        let welcome = Welcome::of(invitation).ok_or_else(|| explained(CodeError::Unreadable))?;
        let own = IdentityKey::load(&ctx.settings.identity_key_path);
        if own.is_ok_and(|own| own.peer_id() == welcome.peer) {
            return Err(CommandError::usage("this code is from this very device")
                .hint("run `rr join` on the device that is to be added"));
        }
        let before = keys::swarm_if_any(&ctx.settings.swarm_key_path)?;
        let store = ctx.open(Access::PATIENT)?;
        let joining = Joining {
            ctx,
            welcome,
            before,
            store,
        };
        if joining.leaves() && !yes {
            joining.ask_to_leave()?;
        }
        Ok(joining)
    }

    fn leaves(&self) -> bool {
        let before = self.before.as_ref();
        before.is_some_and(|before| *before != self.welcome.swarm)
    }

    fn ask_to_leave(&self) -> Result<(), CommandError> {
        let met: Vec<String> = self
            .store
            .peers()?
            .iter()
            .filter_map(|peer| peer.name.as_ref())
            .map(|name| visible(name.as_str().into(), Breaks::Mark))
            .collect();
        let with = match met.is_empty() {
            true => String::new(),
            false => format!(", with {}", met.join(", ")),
        };
        let told = format!("this device is in another swarm already{with}");
        if !io::stdin().is_terminal() {
            return Err(CommandError::usage(told).hint(
                "`rr join --yes` leaves that one; the entries that are here come along. Nothing was changed",
            ));
        }
        let _ = write!(
            io::stderr(),
            "{}. Leave that one for the swarm of `{}`?{} [y/N] ",
            told.replacen('t', "T", 1),
            self.welcome.name,
            match self.store.count()? {
                0 => String::new(),
                count => format!(" The {} entries that are here come along.", grouped(count)),
            },
        );
        let mut answer = String::new();
        let _ = io::stdin().lock().read_line(&mut answer);
        match answer.trim().to_lowercase().as_str() {
            "y" | "yes" => Ok(()),
            _ => Err(CommandError::cancelled()),
        }
    }

    fn enter(mut self) -> Result<Joined, CommandError> {
        let was_member = self.before.as_ref() == Some(&self.welcome.swarm);
        let left = self.before.filter(|_| !was_member);
        let edit = self.welcome.edit(self.ctx, left.is_none())?;
        let user_id = self.welcome.new_user_id(self.ctx).map(str::to_owned);
        self.welcome
            .enter(self.ctx, &mut self.store, self.before.as_ref())?;
        edit.write()?;
        Ok(Joined {
            welcome: self.welcome,
            left,
            user_id,
            was_member,
        })
    }
}

fn expired(ago: u64) -> CommandError {
    let ago = match ago {
        0..120 => format!("{ago} s"),
        120..7_200 => format!("{} minutes", ago / 60),
        7_200..172_800 => format!("{} hours", ago / 3_600),
        _ => format!("{} days", ago / 86_400),
    };
    CommandError::failed(format!("the pairing code has expired {ago} ago")).hint(
        "run `rr pair` again for a new one; if it is new, the clock of one of the devices is wrong",
    )
}

impl Joined {
    fn tell(&self, ctx: &Ctx) {
        let swarm = self.welcome.swarm.fingerprint();
        ctx.note(match self.was_member {
            true => format!("✓ in the swarm {} already", swarm.short()),
            false => format!(
                "✓ in the swarm {} of `{}`",
                swarm.short(),
                self.welcome.name
            ),
        });
        if let Some(left) = &self.left {
            let left = left.fingerprint();
            let kept = ctx.settings.swarm_key_path.with_extension("key.left");
            ctx.note(format_args!(
                "✓ left the swarm {}; its key stays in {}",
                left.short(),
                kept.display()
            ));
        }
        if let Some(user_id) = &self.user_id {
            let user_id = visible(user_id.as_str().into(), Breaks::Mark);
            ctx.note(format_args!(
                "✓ what you type here is `{user_id}`'s from now on, as there (`user_id` in the configuration)"
            ));
        }
    }
}

// ---- the round trip

/// What has come of it.
struct Coming {
    /// The first device that was met, by what it calls itself.
    met: Option<PeerState>,
    /// As the daemon saw it last.
    state: daemon::State,
    /// Devices of the swarm that are known, this one among them.
    devices: usize,
    /// Entries here now.
    here: u64,
    /// Both hold the same, and know it.
    identical: bool,
}

/// Once another device is met, so long is waited for its entries. The rest comes by itself.
const SETTLE: Duration = Duration::from_secs(10);

const LOOK_EVERY: Duration = Duration::from_millis(100);

impl Coming {
    fn watch(ctx: &Ctx, joined: &Joined, timeout: Duration) -> Result<Coming, CommandError> {
        let mut progress = Progress::new(ctx.quiet);
        let began = Instant::now();
        let mut met_at = None;
        loop {
            let coming = Coming::look(ctx, joined)?;
            if coming.met.is_some() {
                met_at.get_or_insert_with(Instant::now);
            }
            let is_over = match met_at {
                Some(met_at) => coming.identical || met_at.elapsed() >= SETTLE,
                None => began.elapsed() >= timeout,
            };
            if is_over {
                return Ok(coming);
            }
            progress.update(|| coming.progress(&joined.welcome));
            std::thread::sleep(LOOK_EVERY);
        }
    }

    fn look(ctx: &Ctx, joined: &Joined) -> Result<Coming, CommandError> {
        let state = control::state(ctx).unwrap_or_default();
        let inviter = state.peers.get(&joined.welcome.peer.to_string());
        let met = inviter
            .filter(|peer| peer.live)
            .or_else(|| state.peers.values().find(|peer| peer.live))
            .cloned();
        let store = ctx.open_for_search()?;
        let summary = store.summary()?;
        let device_id = met.as_ref().and_then(|peer| peer.device_id.as_deref());
        let met_log = match device_id {
            Some(device_id) => store.peer(device_id)?,
            None => None,
        };
        let known = state.peers.values();
        let known = known.filter_map(|peer| peer.device_id.as_deref());
        let typed = summary
            .origins
            .iter()
            .map(|origin| origin.device_id.as_str());
        let own = store.identity().device_id.as_str();
        let devices: BTreeSet<&str> = known.chain(typed).chain([own]).collect();
        Ok(Coming {
            devices: devices.len(),
            here: summary.tally().count,
            identical: met_log.is_some_and(|log| log.is_identical(summary.tally())),
            met,
            state,
        })
    }

    fn progress(&self, welcome: &Welcome) -> String {
        match &self.met {
            None => format!("looking for `{}` ...", welcome.name),
            Some(_) => format!(
                "{} of {} entries",
                grouped(self.here),
                grouped(self.entries())
            ),
        }
    }

    /// What the swarm holds, as far as it is known.
    fn entries(&self) -> u64 {
        let told = self.met.as_ref().and_then(|peer| peer.entries);
        self.here.max(told.unwrap_or(0))
    }

    fn tell(&self, ctx: &Ctx, welcome: &Welcome) -> Result<(), CommandError> {
        let Some(met) = &self.met else {
            return Err(self.nobody(welcome));
        };
        for hub in &self.state.hubs {
            if let Some(error) = &hub.error {
                warn(format_args!(
                    "the hub `{}` can't be used now: {error}; it is tried again by itself",
                    hub.addr
                ));
            }
        }
        let name = met.name.as_deref().unwrap_or(&welcome.name);
        let name = visible(name.into(), Breaks::Mark);
        let devices = self.devices;
        let how = match self.identical {
            true => format!("{} entries, identical with `{name}`", grouped(self.here)),
            false => format!(
                "{} of {} entries are here, the rest is on its way from `{name}`",
                grouped(self.here),
                grouped(self.entries())
            ),
        };
        ctx.note(format_args!(
            "✓ {devices} devices, {how}; usable now: press ctrl+r"
        ));
        Ok(())
    }

    /// The way is there and nobody on it: what is known of why.
    fn nobody(&self, welcome: &Welcome) -> CommandError {
        let mut why = Vec::new();
        let inviter = self.state.peers.get(&welcome.peer.to_string());
        if let Some(error) = inviter.and_then(|peer| peer.error.as_ref()) {
            why.push(format!("`{}`: {error}", welcome.name));
        }
        for hub in &self.state.hubs {
            let error = hub.error.as_deref();
            why.push(format!(
                "hub `{}`: {}",
                hub.addr,
                error.unwrap_or(&hub.tracker)
            ));
        }
        why.extend(self.state.stranger.clone());
        let why = match why.is_empty() {
            true => String::new(),
            false => format!(" ({})", why.join("; ")),
        };
        let hint = match self.state.hubs.is_empty() {
            true => {
                "are both devices on and in one network, and does no firewall keep them apart? A hub lets them meet from \
                     anywhere (`rr hub --help`)"
            }
            false => "is the other device on, does `rr daemon` run there, and does the hub run?",
        };
        CommandError::failed(format!(
            "this device is a member now, but no other one was met{why}"
        ))
        .hint(format!(
            "{hint}. The daemon keeps trying; `rr status` shows it"
        ))
    }

    fn json(&self, joined: &Joined) -> Value {
        json!({
            "swarm": joined.welcome.swarm.fingerprint().to_string(),
            "left": joined.left.as_ref().map(|left| left.fingerprint().to_string()),
            "user_id": joined.user_id,
            "met": self.met.as_ref().map(|peer| json!({
                "device_id": peer.device_id,
                "name": peer.name,
                "path": peer.path,
            })),
            "devices": self.devices,
            "entries": self.entries(),
            "here": self.here,
            "identical": self.identical,
            "hubs": self.state.hubs.iter().map(|hub| json!({
                "addr": hub.addr,
                "tracker": hub.tracker,
                "relay": hub.relay,
                "error": hub.error,
            })).collect::<Vec<_>>(),
        })
    }
}
