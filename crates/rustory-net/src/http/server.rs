//! The server: small, bounded in everything, and up whatever arrives.

use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use http_body_util::BodyExt as _;
use hyper::body::{Body as _, Bytes, Incoming};
use hyper::header::{
    ALLOW, AUTHORIZATION, CONNECTION, CONTENT_TYPE, HOST, HeaderValue, ORIGIN, RETRY_AFTER,
    UPGRADE as UPGRADE_TO,
};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use rustory_core::json::{EntryJson, PartialEntry};
use rustory_core::limits::{BATCH_ENTRIES_DEFAULT, HTTP_BODY_BYTES_MAX, clamp_batch_entries};
use rustory_core::sync::session::Role;
use rustory_core::{Entry, IngestSeq};
use serde::Serialize;
use serde_json::error::Category;
use tokio::net::TcpListener;
use tokio::sync::mpsc::unbounded_channel;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::Instant;

use super::bounded::{Pieces, Unstalled};
use super::message::{ErrorBody, Hello, PageOut, Ping, Pushed, UPGRADE, posted};
use crate::session::{self, Control, Host};

/// The log that is served. Its calls may block: they run on threads for that.
pub trait Log: Send + Sync + 'static {
    /// Who this is, and how far the log reaches.
    ///
    /// # Errors
    /// [`LogError`].
    fn hello(&self) -> Result<Hello, LogError>;

    /// At most `limit` entries behind `after`.
    ///
    /// # Errors
    /// [`LogError`].
    fn read(&self, after: IngestSeq, limit: usize) -> Result<Served, LogError>;

    /// Stores entries, all or none.
    ///
    /// # Errors
    /// [`LogError`].
    fn insert(&self, entries: Vec<Entry>) -> Result<Pushed, LogError>;

    /// What this device brings to a sync session that was asked for.
    ///
    /// # Errors
    /// [`LogError`].
    fn host(&self) -> Result<Host, LogError>;
}

/// A piece of the log that is served.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Served {
    /// In the log's order.
    pub entries: Vec<Entry>,
    /// The position of the last one; `None` when there was nothing behind.
    pub last: Option<IngestSeq>,
    /// Whether the log ends there.
    pub at_head: bool,
}

/// Why the log could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// Worth trying again in a moment.
    #[error("{0}")]
    Busy(String),
    /// Not by trying again.
    #[error("{0}")]
    Failed(String),
}

/// How to serve.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    /// Where to listen. Not on the loopback only with a token.
    pub addr: SocketAddr,
    /// What every request must bring as `Authorization: Bearer TOKEN`.
    pub token: Option<String>,
}

/// Connections served at once; more wait in the kernel's queue. Ten devices need ten.
const CONNECTIONS_MAX: usize = 64;

/// Bodies in memory at once: each may have [`HTTP_BODY_BYTES_MAX`] bytes and its entries as much
/// again. More requests wait.
const BODIES_MAX: usize = 2;

/// Pages in memory at once, from reading them until the client has taken them: each may have
/// [`HTTP_BODY_BYTES_MAX`] bytes. More requests wait.
const PAGES_MAX: usize = 4;

/// Sync sessions at once: each may hold a few MB.
const SESSIONS_MAX: usize = 16;

/// A client that sends its header slower than this is cut off.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);

/// A client that sends or takes nothing for this long in the middle of a body is cut off. Shorter
/// than the 30 s that clients wait by default, so that one that hangs ends no other's exchange.
const STALL_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a request waits for a place for its body or page before it is told to try again: as
/// long as one that stands still may keep it.
const PLACE_TIMEOUT: Duration = Duration::from_secs(12);

/// A client that sends or takes a body slower than this is cut off: 16 MiB at 280 kB/s.
const BODY_TIMEOUT: Duration = Duration::from_secs(60);

/// How long running requests may take to end once the server is told to stop.
const STOP_GRACE: Duration = Duration::from_millis(1_500);

/// A server that listens already.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    token: Option<String>,
}

impl Server {
    /// Listens.
    ///
    /// # Errors
    /// Whatever the operating system says: the port is taken, the address is not ours.
    pub async fn bind(config: ServerConfig) -> io::Result<Server> {
        Ok(Server {
            listener: TcpListener::bind(config.addr).await?,
            token: config.token,
        })
    }

    /// Where it listens, with the port that the system chose for port 0.
    ///
    /// # Errors
    /// Whatever the operating system says.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until `stop` resolves, then lets running requests end, for a moment.
    pub async fn run(self, log: Arc<dyn Log>, stop: impl Future<Output = ()>) {
        let (stopping, _) = watch::channel(());
        let service = Arc::new(Service {
            log,
            token: self.token,
            bodies: Arc::new(Semaphore::new(BODIES_MAX)),
            pages: Arc::new(Semaphore::new(PAGES_MAX)),
            sessions: Arc::new(Semaphore::new(SESSIONS_MAX)),
            stopping: stopping.clone(),
        });
        let sessions = Arc::clone(&service.sessions);
        let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        let accepting = async {
            loop {
                let Ok(place) = Arc::clone(&places).acquire_owned().await else {
                    return;
                };
                match self.listener.accept().await {
                    Ok((stream, _)) => {
                        let serving = serve(stream, Arc::clone(&service), stopping.subscribe());
                        tokio::spawn(async move {
                            serving.await;
                            drop(place);
                        });
                    }
                    // Out of file descriptors, or a client that is gone already.
                    Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
                }
            }
        };
        tokio::select! {
            () = accepting => {}
            () = stop => {}
        }
        let _ = stopping.send(());
        let all_ended = async {
            let _ = places.acquire_many(CONNECTIONS_MAX as u32).await;
            let _ = sessions.acquire_many(SESSIONS_MAX as u32).await;
        };
        let _ = tokio::time::timeout(STOP_GRACE, all_ended).await;
    }
}

async fn serve(
    stream: tokio::net::TcpStream,
    service: Arc<Service>,
    mut stopping: watch::Receiver<()>,
) {
    let _ = stream.set_nodelay(true);
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(64 * 1024)
        .serve_connection(
            TokioIo::new(Unstalled::new(stream, STALL_TIMEOUT)),
            service_fn(move |request| {
                let service = Arc::clone(&service);
                async move { Ok::<_, Infallible>(service.answer(request).await) }
            }),
        )
        .with_upgrades();
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        // What a client does to its connection is its own affair.
        _ = connection.as_mut() => return,
        _ = stopping.changed() => connection.as_mut().graceful_shutdown(),
    }
    let _ = connection.await;
}

type Answer = Response<Pieces>;

const PING: &str = "/api/v1/ping";
const ENTRIES: &str = "/api/v1/entries";
const SYNC: &str = "/api/v1/sync";

/// What a request is refused with.
struct Refusal {
    status: StatusCode,
    error: String,
    hint: Option<&'static str>,
}

impl Refusal {
    fn new(status: StatusCode, error: impl Into<String>) -> Refusal {
        Refusal {
            status,
            error: error.into(),
            hint: None,
        }
    }

    fn bad(error: impl Into<String>) -> Refusal {
        Refusal::new(StatusCode::BAD_REQUEST, error)
    }

    fn hint(mut self, hint: &'static str) -> Refusal {
        self.hint = Some(hint);
        self
    }
}

impl From<LogError> for Refusal {
    fn from(err: LogError) -> Refusal {
        let status = match err {
            LogError::Busy(_) => StatusCode::SERVICE_UNAVAILABLE,
            LogError::Failed(_) => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Refusal::new(status, err.to_string())
    }
}

struct Service {
    log: Arc<dyn Log>,
    token: Option<String>,
    /// Places for bodies that are in memory.
    bodies: Arc<Semaphore>,
    /// Places for pages that are in memory.
    pages: Arc<Semaphore>,
    /// Places for sync sessions.
    sessions: Arc<Semaphore>,
    stopping: watch::Sender<()>,
}

impl Service {
    async fn answer(&self, request: Request<Incoming>) -> Answer {
        let allowed = match request.uri().path() {
            PING => "GET, HEAD",
            SYNC => "GET",
            _ => "GET, POST",
        };
        let result = match self.admit(&request) {
            Ok(()) => self.route(request).await,
            Err(refusal) => Err(refusal),
        };
        result.unwrap_or_else(|refusal| {
            let body = ErrorBody {
                error: refusal.error,
                hint: refusal.hint.map(str::to_owned),
            };
            let mut answer = json(refusal.status, &body);
            let headers = answer.headers_mut();
            match refusal.status {
                StatusCode::SERVICE_UNAVAILABLE => {
                    headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
                }
                StatusCode::METHOD_NOT_ALLOWED => {
                    headers.insert(ALLOW, HeaderValue::from_static(allowed));
                }
                _ => {}
            }
            answer
        })
    }

    /// With a token, whoever has it. Without one, programs of this machine: no browser, and no
    /// page that had its name resolved to the loopback.
    fn admit(&self, request: &Request<Incoming>) -> Result<(), Refusal> {
        let header = |name| request.headers().get(name).map(HeaderValue::as_bytes);
        if let Some(token) = &self.token {
            let given = header(AUTHORIZATION).and_then(|value| value.strip_prefix(b"Bearer "));
            if given.is_some_and(|given| same(given, token.as_bytes())) {
                return Ok(());
            }
            return Err(
                Refusal::new(StatusCode::UNAUTHORIZED, "the token is missing or wrong")
                    .hint("send `Authorization: Bearer TOKEN` with the server's `http_token`"),
            );
        }
        if header(ORIGIN).is_some() {
            return Err(Refusal::new(
                StatusCode::FORBIDDEN,
                "browsers are not served",
            ));
        }
        match header(HOST) {
            Some(host) if !is_loopback_name(host) => Err(Refusal::new(
                StatusCode::FORBIDDEN,
                "without a token only `localhost` and addresses of the loopback are served",
            )),
            _ => Ok(()),
        }
    }

    async fn route(&self, request: Request<Incoming>) -> Result<Answer, Refusal> {
        match (request.method(), request.uri().path()) {
            (&Method::GET | &Method::HEAD, PING) => {
                let hello = self.with_log(|log| log.hello()).await?;
                Ok(json(StatusCode::OK, &Ping::from(hello)))
            }
            (&Method::GET, ENTRIES) => self.entries(request.uri().query()).await,
            (&Method::POST, ENTRIES) => self.post(request).await,
            (&Method::GET, SYNC) => self.sync(request).await,
            (_, PING | ENTRIES | SYNC) => Err(Refusal::new(
                StatusCode::METHOD_NOT_ALLOWED,
                format!("`{}` is not served here", request.method()),
            )),
            (_, path) => {
                let path: String = path.chars().take(100).collect();
                Err(
                    Refusal::new(StatusCode::NOT_FOUND, format!("there is no `{path}`"))
                        .hint("`/api/v1/ping`, `/api/v1/entries` and `/api/v1/sync` are served"),
                )
            }
        }
    }

    async fn entries(&self, query: Option<&str>) -> Result<Answer, Refusal> {
        let query = Query::parse(query.unwrap_or_default())?;
        let place = place(&self.pages).await?;
        let (hello, served) = self
            .with_log(move |log| {
                // The log's name and end first: what is read then is at least that.
                Ok((log.hello()?, log.read(query.cursor, query.limit)?))
            })
            .await?;
        let last = served.last.map(IngestSeq::get);
        let page = PageOut {
            entries: served.entries.iter().map(EntryJson).collect(),
            next_cursor: last.filter(|_| !served.at_head),
            last,
            head: hello.head.get(),
            log_id: hello.log_id.to_string(),
        };
        let until = Instant::now() + BODY_TIMEOUT;
        Ok(json(StatusCode::OK, &page).map(|page| page.held(place, until)))
    }

    async fn post(&self, request: Request<Incoming>) -> Result<Answer, Refusal> {
        let _place = place(&self.bodies).await?;
        let body = body(request).await?;
        let pushed = self
            .with_log(move |log| Ok(parse_entries(&body).map(|entries| log.insert(entries))))
            .await??;
        Ok(json(StatusCode::OK, &pushed?))
    }

    /// Turns the connection into the stream of a sync session.
    async fn sync(&self, mut request: Request<Incoming>) -> Result<Answer, Refusal> {
        let asked = request.headers().get(UPGRADE_TO);
        if asked.map(HeaderValue::as_bytes) != Some(UPGRADE.as_bytes()) {
            return Err(Refusal::new(
                StatusCode::UPGRADE_REQUIRED,
                format!("this path speaks `{UPGRADE}`"),
            )
            .hint("`rr sync http://HOST:PORT` does; is it the same version?"));
        }
        let place = place(&self.sessions).await?;
        let host = self.with_log(|log| log.host()).await?;
        let upgrade = hyper::upgrade::on(&mut request);
        let mut stopping = self.stopping.subscribe();
        tokio::spawn(async move {
            let _place = place;
            let Ok(stream) = upgrade.await else { return };
            let (tell, told) = unbounded_channel();
            let session =
                session::run(TokioIo::new(stream), Role::Answerer, &host, told, |_, _| {});
            let mut session = std::pin::pin!(session);
            tokio::select! {
                // How it ended is for the one that asked to tell.
                _ = session.as_mut() => return,
                _ = stopping.changed() => {}
            }
            let _ = tell.send(Control::Stop);
            let _ = session.await;
        });
        let mut answer = Response::new(Pieces::from(Bytes::new()));
        *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let headers = answer.headers_mut();
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(UPGRADE_TO, HeaderValue::from_static(UPGRADE));
        Ok(answer)
    }

    /// Runs what may block on a thread for that.
    async fn with_log<T: Send + 'static>(
        &self,
        work: impl FnOnce(&dyn Log) -> Result<T, LogError> + Send + 'static,
    ) -> Result<T, Refusal> {
        let log = Arc::clone(&self.log);
        tokio::task::spawn_blocking(move || work(&*log))
            .await
            .map_err(|_| {
                Refusal::new(
                    StatusCode::INTERNAL_SERVER_ERROR,
                    "a bug in rr; see its log",
                )
            })?
            .map_err(Refusal::from)
    }
}

struct Query {
    cursor: IngestSeq,
    limit: usize,
}

impl Query {
    fn parse(text: &str) -> Result<Query, Refusal> {
        let mut query = Query {
            cursor: IngestSeq::ZERO,
            limit: BATCH_ENTRIES_DEFAULT,
        };
        for (name, value) in form_urlencoded::parse(text.as_bytes()) {
            match &*name {
                "cursor" => query.cursor = number("cursor", &value)?,
                "limit" => {
                    query.limit = clamp_batch_entries(number("limit", &value)?.get());
                }
                // Of a newer client; it can live without.
                _ => {}
            }
        }
        Ok(query)
    }
}

fn number(name: &str, value: &str) -> Result<IngestSeq, Refusal> {
    value.parse().ok().and_then(IngestSeq::new).ok_or_else(|| {
        let shown: String = value.chars().take(40).collect();
        Refusal::bad(format!(
            "`{name}={shown}`: expected a whole number from 0 to {}",
            i64::MAX
        ))
    })
}

/// A place among the large things in memory.
async fn place(places: &Arc<Semaphore>) -> Result<OwnedSemaphorePermit, Refusal> {
    let place = Arc::clone(places).acquire_owned();
    match tokio::time::timeout(PLACE_TIMEOUT, place).await {
        Ok(Ok(place)) => Ok(place),
        _ => Err(Refusal::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "too many requests at once",
        )),
    }
}

async fn body(request: Request<Incoming>) -> Result<Vec<u8>, Refusal> {
    let too_large = || {
        Refusal::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            format!("the body has more than {HTTP_BODY_BYTES_MAX} bytes"),
        )
        .hint("send fewer entries at once")
    };
    // Told at once where the size is announced, counted where it is not.
    if request.body().size_hint().lower() > HTTP_BODY_BYTES_MAX as u64 {
        return Err(too_large());
    }
    let until = Instant::now() + BODY_TIMEOUT;
    let mut incoming = request.into_body();
    let mut body = Vec::new();
    loop {
        let stalled = (Instant::now() + STALL_TIMEOUT).min(until);
        match tokio::time::timeout_at(stalled, incoming.frame()).await {
            Ok(None) => return Ok(body),
            Ok(Some(Ok(frame))) => {
                let piece = frame.into_data().unwrap_or_default();
                if piece.len() > HTTP_BODY_BYTES_MAX - body.len() {
                    return Err(too_large());
                }
                body.extend_from_slice(&piece);
            }
            Ok(Some(Err(_))) => return Err(Refusal::bad("the body ended early")),
            Err(_) => {
                return Err(Refusal::new(
                    StatusCode::REQUEST_TIMEOUT,
                    "the body came too slowly",
                ));
            }
        }
    }
}

/// All or nothing: a client that is told about entry 7 must not wonder about the other six.
fn parse_entries(body: &[u8]) -> Result<Vec<Entry>, Refusal> {
    let raw = posted(body).map_err(|err| match err.classify() {
        Category::Data => Refusal::bad(format!("the body is no list of entries: {err}"))
            .hint("send `[ENTRY, ...]` or `{\"entries\": [ENTRY, ...]}`"),
        _ => Refusal::bad(format!("the body is no JSON: {err}")),
    })?;
    raw.iter()
        .enumerate()
        .map(|(n, raw)| {
            let bad = |err: String| Refusal::bad(format!("entry {n} (counted from 0): {err}"));
            serde_json::from_str::<PartialEntry>(raw.get())
                .map_err(|err| bad(err.to_string()))?
                .into_entry()
                .map_err(|err| bad(err.to_string()))
        })
        .collect()
}

fn json(status: StatusCode, body: &impl Serialize) -> Answer {
    let bytes = serde_json::to_vec(body).unwrap_or_default();
    let mut answer = Response::new(Pieces::from(Bytes::from(bytes)));
    *answer.status_mut() = status;
    let json = HeaderValue::from_static("application/json");
    answer.headers_mut().insert(CONTENT_TYPE, json);
    answer
}

/// Takes the same time wherever the first difference is.
fn same(given: &[u8], token: &[u8]) -> bool {
    let different = given.iter().zip(token).fold(0, |acc, (a, b)| acc | (a ^ b));
    given.len() == token.len() && different == 0
}

/// Whether a `Host` header, with or without a port, names this machine. A number can't be made to
/// mean another machine, as a name of the attacker's can.
fn is_loopback_name(host: &[u8]) -> bool {
    let Ok(host) = std::str::from_utf8(host) else {
        return false;
    };
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let number = match name.strip_prefix('[').map(|rest| rest.strip_suffix(']')) {
        Some(inner) => inner.and_then(|text| text.parse().ok()).map(IpAddr::V6),
        None => name.parse().ok().map(IpAddr::V4),
    };
    name.eq_ignore_ascii_case("localhost") || number.is_some_and(|number| number.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_this_machine_are_loopback_names() {
        for name in [
            "localhost",
            "LOCALHOST:80",
            "127.0.0.1:8787",
            "127.0.0.2:8787",
            "[::1]",
            "[::1]:1",
        ] {
            assert!(is_loopback_name(name.as_bytes()), "{name}");
        }
        for name in [
            "evil.example",
            "localhost.evil.example",
            "127.0.0.1.evil:80",
            "192.0.2.1",
            "[2001:db8::1]:80",
            "[127.0.0.1]",
            "[::1",
            "",
            "::1",
        ] {
            assert!(!is_loopback_name(name.as_bytes()), "{name}");
        }
    }

    #[test]
    fn a_token_is_the_same_only_when_it_is() {
        assert!(same(b"abc", b"abc"));
        for other in ["", "ab", "abd", "abcd"] {
            assert!(!same(other.as_bytes(), b"abc"), "{other}");
        }
    }
}
