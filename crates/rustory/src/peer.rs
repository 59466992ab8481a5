//! Where another device is reached, and the stream to it.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::pin::Pin;
use std::process::Stdio;
use std::str::FromStr;
use std::task::{Context, Poll};
use std::time::Duration;

use rustory_net::http::{self, ClientError, Url, UrlError};
use rustory_store::PeerPath;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use crate::error::CommandError;
use crate::text::{Breaks, visible};

/// `http://HOST[:PORT]` or `ssh:HOST`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum PeerAddr {
    /// `rr serve --http` answers there.
    Http(Url),
    /// Whatever `ssh HOST` reaches, with rr at the far end.
    Ssh(String),
}

impl PeerAddr {
    /// What kind of way it is, as `rr status` says it.
    pub(crate) fn path(&self) -> PeerPath {
        match self {
            PeerAddr::Http(_) => PeerPath::Http,
            PeerAddr::Ssh(_) => PeerPath::Ssh,
        }
    }
}

impl fmt::Display for PeerAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PeerAddr::Http(url) => url.fmt(f),
            PeerAddr::Ssh(host) => write!(f, "ssh:{host}"),
        }
    }
}

impl FromStr for PeerAddr {
    type Err = String;

    fn from_str(text: &str) -> Result<PeerAddr, String> {
        if let Some(host) = text.strip_prefix("ssh:") {
            // Else ssh would take it for one of its options.
            if host.is_empty() || host.starts_with('-') || host.contains(char::is_whitespace) {
                return Err(format!("`{host}` is no host for ssh"));
            }
            return Ok(PeerAddr::Ssh(host.trim_start_matches("//").to_owned()));
        }
        text.parse().map(PeerAddr::Http).map_err(|err| match err {
            UrlError::Https => format!("{err}; reach the other device through ssh: `ssh:HOST`"),
            UrlError::Malformed(_) => {
                format!("`{text}` is no address such as `ssh:HOST` or `http://127.0.0.1:8787`")
            }
        })
    }
}

/// An open stream to another device.
pub(crate) enum PeerStream {
    Http(Box<http::Upgraded>),
    Ssh(Box<SshStream>),
}

/// The standard streams of an `ssh` that runs `rr serve --stdio` at the far end.
pub(crate) struct SshStream {
    child: Child,
    stdin: ChildStdin,
    stdout: ChildStdout,
}

/// Opens a stream, within `timeout` where the way there has no time-out of its own.
pub(crate) async fn open(
    addr: &PeerAddr,
    token: Option<&str>,
    timeout: Duration,
) -> Result<PeerStream, CommandError> {
    match addr {
        PeerAddr::Http(url) => {
            let stream = http::open(url, token, timeout).await?;
            Ok(PeerStream::Http(Box::new(stream)))
        }
        PeerAddr::Ssh(host) => Ok(PeerStream::Ssh(Box::new(ssh(host, timeout)?))),
    }
}

/// ssh as it is to run `rustory ARGS` at the far end, and what it is called here. rr is found where it
/// is installed by default even if the shell that ssh starts there has not read the user's profile,
/// and under the name that no debugger has.
pub(crate) fn ssh_command(
    host: &str,
    timeout: Duration,
    args: &str,
) -> (OsString, std::process::Command) {
    let program = std::env::var_os("RUSTORY_SSH").unwrap_or_else(|| "ssh".into());
    let far =
        format!("sh -c 'PATH=\"$HOME/.local/bin:$HOME/.cargo/bin:$PATH\"; exec rustory {args}'");
    let mut command = std::process::Command::new(&program);
    command
        .arg("-T")
        .arg("-o")
        .arg(format!("ConnectTimeout={}", timeout.as_secs().max(1)))
        .args(["--", host, &far]);
    (program, command)
}

/// What there is to say when ssh itself can't be started.
pub(crate) fn no_ssh(program: &OsStr, err: &std::io::Error) -> CommandError {
    let program = program.to_string_lossy();
    CommandError::failed(format!("`{program}` can't be started: {err}"))
        .hint("install OpenSSH's client, or set RUSTORY_SSH to what to use instead")
}

/// What an exit code of ssh means, where it is about the way rather than about what ran there.
pub(crate) fn ssh_told(code: i32, host: &str) -> Option<CommandError> {
    match code {
        127 => Some(CommandError::failed(format!("there is no rr at `{host}`")).hint(
            "install it there: the program has to be in ~/.local/bin or in the PATH, as `rustory`",
        )),
        255 => Some(
            CommandError::failed(format!("ssh could not connect to `{host}`"))
                .hint("does `ssh HOST true` work?"),
        ),
        _ => None,
    }
}

fn ssh(host: &str, timeout: Duration) -> Result<SshStream, CommandError> {
    let (program, command) = ssh_command(host, timeout, "serve --stdio");
    let mut child = Command::from(command)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|err| no_ssh(&program, &err))?;
    let gone = || CommandError::failed("ssh has no standard streams; this is a bug");
    Ok(SshStream {
        stdin: child.stdin.take().ok_or_else(gone)?,
        stdout: child.stdout.take().ok_or_else(gone)?,
        child,
    })
}

impl PeerStream {
    /// Closes it and lets the far end come to its own end. Returns why it is gone, if the way there
    /// knows better than "closed".
    pub(crate) async fn finish(self, addr: &PeerAddr) -> Option<CommandError> {
        let PeerStream::Ssh(mut stream) = self else {
            return None;
        };
        drop((stream.stdin, stream.stdout));
        let wait = tokio::time::timeout(FINISH_MAX, stream.child.wait());
        let code = wait.await.ok()?.ok()?.code()?;
        ssh_told(code, &addr.to_string())
    }
}

/// The far end writes down what it has learned; then it is not waited for any longer.
const FINISH_MAX: Duration = Duration::from_secs(5);

impl AsyncRead for PeerStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        match self.get_mut() {
            PeerStream::Http(stream) => Pin::new(&mut **stream).poll_read(cx, buf),
            PeerStream::Ssh(stream) => Pin::new(&mut stream.stdout).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for PeerStream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        match self.get_mut() {
            PeerStream::Http(stream) => Pin::new(&mut **stream).poll_write(cx, bytes),
            PeerStream::Ssh(stream) => Pin::new(&mut stream.stdin).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        match self.get_mut() {
            PeerStream::Http(stream) => Pin::new(&mut **stream).poll_flush(cx),
            PeerStream::Ssh(stream) => Pin::new(&mut stream.stdin).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        match self.get_mut() {
            PeerStream::Http(stream) => Pin::new(&mut **stream).poll_shutdown(cx),
            PeerStream::Ssh(stream) => Pin::new(&mut stream.stdin).poll_shutdown(cx),
        }
    }
}

impl From<ClientError> for CommandError {
    fn from(err: ClientError) -> Self {
        // It may hold what the peer said.
        let message = visible(err.to_string().as_str().into(), Breaks::Mark);
        let hint = match &err {
            ClientError::Unreachable { .. } => {
                "does `rr serve --http` run there, and is the port right?"
            }
            ClientError::TimedOut { .. } => {
                "is the machine asleep, or the network slow? --timeout waits longer"
            }
            ClientError::Broken { .. } => {
                "what came before is kept; run it again to go on from there"
            }
            ClientError::Unauthorized { .. } => {
                "set `http_token` (or RUSTORY_HTTP_TOKEN) to the one of the other device"
            }
            ClientError::NotRustory { .. } => {
                "is that the port of `rr serve --http`, of the same version?"
            }
            ClientError::Refused { status: 503, .. } => "it is busy; try again in a moment",
            ClientError::Refused { .. } => return CommandError::failed(message),
        };
        CommandError::failed(message).hint(hint)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_told_apart_and_none_becomes_an_option_of_ssh() {
        let shown = |text: &str| text.parse::<PeerAddr>().map(|addr| addr.to_string());
        assert_eq!(shown("ssh:desk").as_deref(), Ok("ssh:desk"));
        assert_eq!(shown("ssh://me@desk").as_deref(), Ok("ssh:me@desk"));
        assert_eq!(shown("http://desk:1").as_deref(), Ok("http://desk:1"));
        for text in [
            "ssh:",
            "ssh:-oProxyCommand=x",
            "ssh:a b",
            "desk",
            "https://desk",
            "",
        ] {
            assert!(shown(text).is_err(), "{text}");
        }
    }
}
