//! What a hub tells machines about itself: `/livez`, `/readyz` and `/metrics`, on a port of its own.
//!
//! Apart from the hub's task, so that it answers, and says so, when that task hangs or has died.

use std::convert::Infallible;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use libp2p::Multiaddr;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, Semaphore};

use super::failure::StartError;
use super::limits::{HEALTH_CONNECTIONS_MAX, HEALTH_TIMEOUT};
use super::registry::RegistryCounts;

/// A hub whose task has not shown a sign of life for this long hangs: six of its ticks.
const HANGS_AFTER: Duration = Duration::from_secs(60);

/// What the hub's task shares with whoever asks.
#[derive(Debug, Default)]
pub(super) struct Shared {
    complete: AtomicBool,
    ended: AtomicBool,
    ending: Notify,
    beat: Mutex<Option<Instant>>,
    listening: Mutex<Vec<Multiaddr>>,
    connections: AtomicUsize,
    devices: AtomicUsize,
    devices_online: AtomicUsize,
    reservations: AtomicUsize,
    circuits: AtomicUsize,
    announced: AtomicU64,
    announce_refused: AtomicU64,
    circuits_total: AtomicU64,
    relay_denied: AtomicU64,
    wrong_key: AtomicU64,
    over_limit: AtomicU64,
    broken_handshake: AtomicU64,
}

/// Marks the hub as ended when its task ends, whatever the reason.
pub(super) struct Alive<'a>(&'a Shared);

impl Drop for Alive<'_> {
    fn drop(&mut self) {
        self.0.ended.store(true, Ordering::Relaxed);
        // Kept for a health port that is not waiting right now.
        self.0.ending.notify_one();
    }
}

impl Shared {
    pub(super) fn alive(&self) -> Alive<'_> {
        self.beat();
        Alive(self)
    }

    /// A sign of life.
    pub(super) fn beat(&self) {
        *lock(&self.beat) = Some(Instant::now());
    }

    /// Whether it does all that it was told to.
    pub(super) fn set_complete(&self, complete: bool) {
        self.complete.store(complete, Ordering::Relaxed);
    }

    pub(super) fn set_numbers(
        &self,
        connections: usize,
        devices: RegistryCounts,
        reservations: usize,
        circuits: usize,
    ) {
        self.connections.store(connections, Ordering::Relaxed);
        self.devices.store(devices.known, Ordering::Relaxed);
        self.devices_online.store(devices.online, Ordering::Relaxed);
        self.reservations.store(reservations, Ordering::Relaxed);
        self.circuits.store(circuits, Ordering::Relaxed);
    }

    pub(super) fn add_listening(&self, addr: Multiaddr) {
        lock(&self.listening).push(addr);
    }

    pub(super) fn remove_listening(&self, addr: &Multiaddr) {
        lock(&self.listening).retain(|it| it != addr);
    }

    pub(super) fn listening(&self) -> Vec<Multiaddr> {
        lock(&self.listening).clone()
    }

    pub(super) fn announced(&self, taken: bool) {
        add_one(if taken {
            &self.announced
        } else {
            &self.announce_refused
        });
    }

    pub(super) fn circuit(&self) {
        add_one(&self.circuits_total);
    }

    pub(super) fn relay_denied(&self) {
        add_one(&self.relay_denied);
    }

    pub(super) fn wrong_key(&self) {
        add_one(&self.wrong_key);
    }

    pub(super) fn over_limit(&self) {
        add_one(&self.over_limit);
    }

    pub(super) fn broken_handshake(&self) {
        add_one(&self.broken_handshake);
    }

    fn is_alive(&self) -> bool {
        let beat = *lock(&self.beat);
        let fresh = beat.is_some_and(|beat| beat.elapsed() < HANGS_AFTER);
        fresh && !self.ended.load(Ordering::Relaxed)
    }

    pub(super) fn is_ready(&self) -> bool {
        let complete = self.complete.load(Ordering::Relaxed);
        complete && self.is_alive() && !lock(&self.listening).is_empty()
    }

    /// In Prometheus' text format.
    pub(super) fn metrics(&self) -> String {
        let mut text = String::new();
        let mut metric = |kind: &str, name: &str, help: &str, value: u64| {
            // Writing to a string can't fail.
            let _ = writeln!(
                text,
                "# HELP rustory_hub_{name} {help}\n# TYPE rustory_hub_{name} {kind}\n\
                 rustory_hub_{name} {value}"
            );
        };
        let now = |value: &AtomicUsize| value.load(Ordering::Relaxed) as u64;
        let total = |value: &AtomicU64| value.load(Ordering::Relaxed);
        let ready = u64::from(self.is_ready());
        metric(
            "gauge",
            "ready",
            "1 when the hub serves all it should",
            ready,
        );
        let connections = now(&self.connections);
        metric(
            "gauge",
            "connections",
            "Connections of devices",
            connections,
        );
        let devices = now(&self.devices);
        metric(
            "gauge",
            "devices",
            "Devices that the tracker lists",
            devices,
        );
        let online = now(&self.devices_online);
        metric("gauge", "devices_online", "Of those, connected", online);
        let reservations = now(&self.reservations);
        metric(
            "gauge",
            "reservations",
            "Devices with a reservation",
            reservations,
        );
        metric(
            "gauge",
            "circuits",
            "Circuits between devices",
            now(&self.circuits),
        );
        let announced = total(&self.announced);
        metric(
            "counter",
            "announced_total",
            "Announcements taken",
            announced,
        );
        let refused = total(&self.announce_refused);
        metric(
            "counter",
            "announce_refused_total",
            "Announcements refused",
            refused,
        );
        let circuits = total(&self.circuits_total);
        metric("counter", "circuits_total", "Circuits made", circuits);
        let denied = total(&self.relay_denied);
        metric(
            "counter",
            "relay_denied_total",
            "Reservations and circuits denied",
            denied,
        );
        let wrong = total(&self.wrong_key);
        metric(
            "counter",
            "wrong_key_total",
            "Connections with another swarm key",
            wrong,
        );
        let over = total(&self.over_limit);
        metric(
            "counter",
            "over_limit_total",
            "Connections beyond a limit",
            over,
        );
        let broken = total(&self.broken_handshake);
        metric(
            "counter",
            "broken_handshake_total",
            "Handshakes that broke off",
            broken,
        );
        text
    }
}

fn add_one(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// Nothing that is locked here can be left half done by a panic.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The health port, listening.
pub(super) struct Health {
    listener: TcpListener,
    addr: SocketAddr,
    shared: Arc<Shared>,
}

impl Health {
    pub(super) async fn bind(addr: SocketAddr, shared: Arc<Shared>) -> Result<Health, StartError> {
        let unable = |source| StartError::Health { addr, source };
        let listener = TcpListener::bind(addr).await.map_err(unable)?;
        let addr = listener.local_addr().map_err(unable)?;
        Ok(Health {
            listener,
            addr,
            shared,
        })
    }

    pub(super) fn local_addr(&self) -> SocketAddr {
        self.addr
    }

    /// Answers until the hub has ended.
    pub(super) async fn run(self) {
        let places = Arc::new(Semaphore::new(HEALTH_CONNECTIONS_MAX));
        loop {
            let Ok(place) = Arc::clone(&places).acquire_owned().await else {
                return;
            };
            let accepted = tokio::select! {
                accepted = self.listener.accept() => accepted,
                () = self.shared.ending.notified() => return,
            };
            match accepted {
                Ok((stream, _)) => {
                    let shared = Arc::clone(&self.shared);
                    tokio::spawn(async move {
                        serve(stream, shared).await;
                        drop(place);
                    });
                }
                // Out of file descriptors, or a client that is gone already.
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    }
}

async fn serve(stream: TcpStream, shared: Arc<Shared>) {
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEALTH_TIMEOUT)
        .keep_alive(false)
        .max_buf_size(16 * 1024)
        .serve_connection(
            TokioIo::new(stream),
            service_fn(move |request| {
                let answer = answer(&shared, &request);
                async move { Ok::<_, Infallible>(answer) }
            }),
        );
    // What a client does to its connection is its own affair.
    let _ = tokio::time::timeout(2 * HEALTH_TIMEOUT, connection).await;
}

fn answer(shared: &Shared, request: &Request<Incoming>) -> Response<Full<Bytes>> {
    let flag = |good: bool, text: &str| match good {
        true => (StatusCode::OK, "ok\n".to_owned()),
        false => (StatusCode::SERVICE_UNAVAILABLE, format!("{text}\n")),
    };
    let (status, text) = match (request.method(), request.uri().path()) {
        (&Method::GET | &Method::HEAD, "/livez") => flag(shared.is_alive(), "the hub hangs"),
        (&Method::GET | &Method::HEAD, "/readyz") => flag(shared.is_ready(), "not ready"),
        (&Method::GET | &Method::HEAD, "/metrics") => (StatusCode::OK, shared.metrics()),
        _ => (StatusCode::NOT_FOUND, "/livez, /readyz, /metrics\n".into()),
    };
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    response
}
