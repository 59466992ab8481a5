//! The client: one connection that is kept, blocking calls, everything bounded.

use std::fmt;
use std::io;
use std::str::FromStr;
use std::time::{Duration, Instant};

use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1::SendRequest;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use rustory_core::json::EntryJson;
use rustory_core::limits::HTTP_BODY_BYTES_MAX;
use rustory_core::sync::Page;
use rustory_core::{Entry, IngestSeq};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;

use super::message::{ErrorBody, Hello, PageIn, Ping, PostOut, Pushed};

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
    /// The answer is larger than any that this version sends.
    #[error("`{url}` answers with more than {HTTP_BODY_BYTES_MAX} bytes")]
    TooLarge {
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

/// A client of one server.
pub struct Client {
    url: Url,
    token: Option<String>,
    timeout: Duration,
    runtime: Runtime,
    connection: Option<SendRequest<Full<Bytes>>>,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("url", &self.url)
            .finish_non_exhaustive()
    }
}

impl Client {
    /// A client that has not connected yet; `timeout` bounds each request.
    ///
    /// # Errors
    /// Whatever the operating system says about a new event loop.
    pub fn new(url: Url, token: Option<String>, timeout: Duration) -> io::Result<Client> {
        Ok(Client {
            url,
            token,
            timeout,
            runtime: tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?,
            connection: None,
        })
    }

    /// Asks who is there.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn hello(&mut self) -> Result<Hello, ClientError> {
        let body = self.request(Method::GET, "/api/v1/ping", Bytes::new())?;
        serde_json::from_slice::<Ping>(&body)
            .ok()
            .and_then(Ping::into_hello)
            .ok_or_else(|| self.not_rustory())
    }

    /// Asks for a page of the log, without what we have of one device: its id, and the
    /// `device_seq` up to which we have everything.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn page(
        &mut self,
        after: IngestSeq,
        limit: usize,
        have: Option<&(String, u64)>,
    ) -> Result<Page, ClientError> {
        let mut path = format!("/api/v1/entries?cursor={after}&limit={limit}");
        if let Some((device, through)) = have {
            let device = form_urlencoded::byte_serialize(device.as_bytes());
            path.extend(["&have="].into_iter().chain(device));
            path.push_str(&format!(":{through}"));
        }
        let body = self.request(Method::GET, &path, Bytes::new())?;
        serde_json::from_slice::<PageIn<'_>>(&body)
            .ok()
            .and_then(PageIn::into_page)
            .ok_or_else(|| self.not_rustory())
    }

    /// Sends entries.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn push(&mut self, entries: &[Entry]) -> Result<Pushed, ClientError> {
        let body = PostOut {
            entries: entries.iter().map(EntryJson).collect(),
        };
        let body = serde_json::to_vec(&body).map_err(|_| self.not_rustory())?;
        let answer = self.request(Method::POST, "/api/v1/entries", body.into())?;
        serde_json::from_slice(&answer).map_err(|_| self.not_rustory())
    }

    fn not_rustory(&self) -> ClientError {
        ClientError::NotRustory {
            url: self.url.clone(),
        }
    }

    /// Sends a request, if need be again: on a new connection when the kept one turns out to be
    /// closed, and after a moment when the server's database is locked. Every request of this
    /// transport may be repeated.
    fn request(&mut self, method: Method, path: &str, body: Bytes) -> Result<Bytes, ClientError> {
        let deadline = Instant::now() + self.timeout;
        loop {
            let kept = self.connection.is_some();
            match self.attempt(method.clone(), path, body.clone()) {
                Err(ClientError::Broken { .. }) if kept => self.connection = None,
                Err(ClientError::Refused { status: 503, .. })
                    if Instant::now() + RETRY_AFTER < deadline =>
                {
                    std::thread::sleep(RETRY_AFTER);
                }
                result => return result,
            }
        }
    }

    fn attempt(&mut self, method: Method, path: &str, body: Bytes) -> Result<Bytes, ClientError> {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, format!("{}:{}", self.url.host, self.url.port))
            .header(CONTENT_TYPE, "application/json");
        let request = match &self.token {
            Some(token) => request.header(AUTHORIZATION, format!("Bearer {token}")),
            None => request,
        };
        let request = request
            .body(Full::new(body))
            .map_err(|_| self.not_rustory())?;
        let url = &self.url;
        let connection = &mut self.connection;
        let exchange = async {
            let sender = match connection {
                Some(sender) if !sender.is_closed() => sender,
                _ => connection.insert(connect(url).await?),
            };
            answer(sender, request, url).await
        };
        let waited = self.timeout;
        let result = self
            .runtime
            .block_on(async { tokio::time::timeout(waited, exchange).await });
        result.unwrap_or_else(|_| {
            Err(ClientError::TimedOut {
                url: self.url.clone(),
                waited,
            })
        })
    }
}

/// What the server asks for with its 503.
const RETRY_AFTER: Duration = Duration::from_secs(1);

async fn connect(url: &Url) -> Result<SendRequest<Full<Bytes>>, ClientError> {
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
        let _ = connection.await;
    });
    Ok(sender)
}

async fn answer(
    sender: &mut SendRequest<Full<Bytes>>,
    request: Request<Full<Bytes>>,
    url: &Url,
) -> Result<Bytes, ClientError> {
    let broken = || ClientError::Broken { url: url.clone() };
    sender.ready().await.map_err(|_| broken())?;
    let response = sender.send_request(request).await.map_err(|err| {
        if err.is_parse() {
            ClientError::NotRustory { url: url.clone() }
        } else {
            broken()
        }
    })?;
    let status = response.status();
    // What a peer sends is counted, not believed.
    let body = Limited::new(response.into_body(), HTTP_BODY_BYTES_MAX)
        .collect()
        .await
        .map_err(|err| match err.is::<LengthLimitError>() {
            true => ClientError::TooLarge { url: url.clone() },
            false => broken(),
        })?
        .to_bytes();
    if status.is_success() {
        return Ok(body);
    }
    if status == StatusCode::UNAUTHORIZED {
        return Err(ClientError::Unauthorized { url: url.clone() });
    }
    match serde_json::from_slice::<ErrorBody>(&body) {
        Ok(body) => Err(ClientError::Refused {
            url: url.clone(),
            status: status.as_u16(),
            error: body.error.chars().take(300).collect(),
        }),
        Err(_) => Err(ClientError::NotRustory { url: url.clone() }),
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
