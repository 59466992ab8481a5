//! The client: it asks a server to turn the connection into the stream of a sync session.

use std::fmt;
use std::io;
use std::str::FromStr;
use std::time::Duration;

use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::SendRequest;
use hyper::header::{AUTHORIZATION, CONNECTION, HOST, UPGRADE as UPGRADE_TO};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::message::{ErrorBody, UPGRADE};

/// `http://HOST[:PORT]`: where a device serves its log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url {
    host: String,
    port: u16,
}

/// Why a text is no [`Url`].
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum UrlError {
    /// TLS is not spoken here.
    #[error("https is not spoken here")]
    Https,
    /// Anything else.
    #[error("`{0}` is no address such as `http://127.0.0.1:8787`")]
    Malformed(String),
}

impl FromStr for Url {
    type Err = UrlError;

    fn from_str(text: &str) -> Result<Url, UrlError> {
        if text.starts_with("https://") {
            return Err(UrlError::Https);
        }
        let malformed = || UrlError::Malformed(text.chars().take(100).collect());
        let rest = text.strip_prefix("http://").ok_or_else(malformed)?;
        let authority = rest.strip_suffix('/').unwrap_or(rest);
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !host.ends_with(':') && !port.contains(']') => {
                (host, port.parse().map_err(|_| malformed())?)
            }
            _ => (authority, 80),
        };
        let plain = |c: char| c.is_ascii_alphanumeric() || "-._:[]".contains(c);
        if host.is_empty() || !host.chars().all(plain) {
            return Err(malformed());
        }
        Ok(Url {
            host: host.to_owned(),
            port,
        })
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}:{}", self.host, self.port)
    }
}

/// Why a request brought no answer that can be used.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody answers there.
    #[error("`{url}` can't be reached: {source}")]
    Unreachable {
        /// Where.
        url: Url,
        /// Why.
        source: io::Error,
    },
    /// No answer within the time-out.
    #[error("`{url}` did not answer within {} s", waited.as_secs())]
    TimedOut {
        /// Where.
        url: Url,
        /// How long it was waited for.
        waited: Duration,
    },
    /// The connection broke in the middle.
    #[error("the connection to `{url}` broke")]
    Broken {
        /// Where.
        url: Url,
    },
    /// The token is missing or wrong.
    #[error("`{url}` asks for another token")]
    Unauthorized {
        /// Where.
        url: Url,
    },
    /// An answer of our service that says no.
    #[error("`{url}` refuses with {status}: {error}")]
    Refused {
        /// Where.
        url: Url,
        /// The HTTP status.
        status: u16,
        /// What it says.
        error: String,
    },
    /// Something else listens there, or it speaks another version.
    #[error("`{url}` is no rustory that this version understands")]
    NotRustory {
        /// Where.
        url: Url,
    },
}

/// A stream to another device's `rr serve --http`, ready for a sync session.
pub type Upgraded = TokioIo<hyper::upgrade::Upgraded>;

/// Connects and asks for a sync session, within `timeout`. A server whose database is locked is
/// asked again until then.
///
/// # Errors
/// [`ClientError`].
pub async fn open(
    url: &Url,
    token: Option<&str>,
    timeout: Duration,
) -> Result<Upgraded, ClientError> {
    let attempts = async {
        loop {
            match attempt(url, token).await {
                Err(ClientError::Refused { status: 503, .. }) => {
                    tokio::time::sleep(RETRY_AFTER).await;
                }
                result => return result,
            }
        }
    };
    let waited = timeout;
    tokio::time::timeout(timeout, attempts)
        .await
        .unwrap_or_else(|_| {
            Err(ClientError::TimedOut {
                url: url.clone(),
                waited,
            })
        })
}

/// What the server asks for with its 503.
const RETRY_AFTER: Duration = Duration::from_secs(1);

async fn attempt(url: &Url, token: Option<&str>) -> Result<Upgraded, ClientError> {
    let request = Request::builder()
        .method(Method::GET)
        .uri("/api/v1/sync")
        .header(HOST, format!("{}:{}", url.host, url.port))
        .header(CONNECTION, "upgrade")
        .header(UPGRADE_TO, UPGRADE);
    let request = match token {
        Some(token) => request.header(AUTHORIZATION, format!("Bearer {token}")),
        None => request,
    };
    let not_rustory = || ClientError::NotRustory { url: url.clone() };
    let broken = || ClientError::Broken { url: url.clone() };
    let request = request
        .body(Empty::<Bytes>::new())
        .map_err(|_| not_rustory())?;
    let mut sender = connect(url).await?;
    let mut response = sender
        .send_request(request)
        .await
        .map_err(|err| match err.is_parse() {
            true => not_rustory(),
            false => broken(),
        })?;
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        let stream = hyper::upgrade::on(&mut response).await;
        return stream.map(TokioIo::new).map_err(|_| broken());
    }
    Err(refusal(url, response).await)
}

async fn connect(url: &Url) -> Result<SendRequest<Empty<Bytes>>, ClientError> {
    let host = url.host.trim_start_matches('[').trim_end_matches(']');
    let unreachable = |source| ClientError::Unreachable {
        url: url.clone(),
        source,
    };
    let stream = TcpStream::connect((host, url.port))
        .await
        .map_err(unreachable)?;
    let _ = stream.set_nodelay(true);
    let broken = |_| ClientError::Broken { url: url.clone() };
    let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(broken)?;
    // Its error comes up in the request that it breaks.
    tokio::spawn(async move {
        let _ = connection.with_upgrades().await;
    });
    Ok(sender)
}

/// Largest refusal that is read, in bytes.
const REFUSAL_BYTES_MAX: usize = 64 * 1024;

async fn refusal(url: &Url, response: Response<Incoming>) -> ClientError {
    let status = response.status();
    if status == StatusCode::UNAUTHORIZED {
        return ClientError::Unauthorized { url: url.clone() };
    }
    // What a peer sends is counted, not believed.
    let body = Limited::new(response.into_body(), REFUSAL_BYTES_MAX).collect();
    let told = match body.await {
        Ok(body) => serde_json::from_slice::<ErrorBody>(&body.to_bytes()).ok(),
        Err(_) => None,
    };
    match told {
        Some(told) if !status.is_success() => ClientError::Refused {
            url: url.clone(),
            status: status.as_u16(),
            error: told.error.chars().take(300).collect(),
        },
        _ => ClientError::NotRustory { url: url.clone() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_with_and_without_a_port() {
        let shown = |text: &str| text.parse::<Url>().map(|url| url.to_string());
        assert_eq!(
            shown("http://127.0.0.1:8787").as_deref(),
            Ok("http://127.0.0.1:8787")
        );
        assert_eq!(
            shown("http://desk.local/").as_deref(),
            Ok("http://desk.local:80")
        );
        assert_eq!(shown("http://[::1]:9").as_deref(), Ok("http://[::1]:9"));
        assert_eq!(shown("https://x"), Err(UrlError::Https));
        for text in [
            "",
            "desk",
            "http://",
            "http://x:y",
            "http://x:99999",
            "http://a/b",
            "http://a b",
        ] {
            assert!(matches!(shown(text), Err(UrlError::Malformed(_))), "{text}");
        }
    }
}
