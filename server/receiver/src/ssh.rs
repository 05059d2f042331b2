//! Who comes in: connections, keys, channels, and the limits of each.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use commands::Actor;
use russh::keys::{Algorithm, HashAlg, PrivateKey, PublicKey};
use russh::server::{Auth, ChannelOpenHandle, Handler, Msg, PublicKeyOffer, Session as SshSession, VerifiedPublicKey};
use russh::{Channel, ChannelId, Disconnect, MethodKind, MethodSet, Preferred, Pty, SshId, compression, kex, mac};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::desk::{Desk, DeskError};
use crate::request::Request;
use crate::session::{Ask, Session, Terminal};
use crate::{Door, ReceiverError, session};

/// Keep-alives in the time that a client may be silent for; three without an answer, and it is gone.
const KEEP_ALIVES: u32 = 6;
/// Elliptic curves only: what a stranger can make us compute before we know who it is stays small.
/// OpenSSH has the second since 2014, the first since 2024.
const KEX: &[kex::Name] = &[
    kex::MLKEM768X25519_SHA256,
    kex::CURVE25519,
    kex::CURVE25519_PRE_RFC_8731,
    kex::EXTENSION_SUPPORT_AS_SERVER,
    kex::EXTENSION_OPENSSH_STRICT_KEX_AS_SERVER,
];
const MACS: &[mac::Name] = &[mac::HMAC_SHA512_ETM, mac::HMAC_SHA256_ETM];
/// For commands that were told to end.
const LAST_WORDS: Duration = Duration::from_secs(3);
/// For a goodbye to be sent.
const GOODBYE: Duration = Duration::from_secs(2);
/// After an accept that failed (no descriptors left, for instance).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

pub(crate) async fn serve<D: Desk>(
    door: &Arc<Door<D>>,
    key: PrivateKey,
    listeners: Vec<std::net::TcpListener>,
) -> Result<(), ReceiverError> {
    let ssh = Arc::new(ssh_config(key, &door.config.limits));
    let places = Arc::new(Places::new(door.config.limits.connections, door.config.limits.connections_per_address));
    let mut accepting = JoinSet::new();
    for listener in listeners {
        let listen = |cause| ReceiverError::Listen { cause };
        listener.set_nonblocking(true).map_err(listen)?;
        let listener = TcpListener::from_std(listener).map_err(listen)?;
        accepting.spawn(accept(Arc::clone(door), Arc::clone(&ssh), listener, Arc::clone(&places)));
    }
    if accepting.is_empty() {
        door.stop.cancelled().await;
    }
    while let Some(ended) = accepting.join_next().await {
        if ended.is_err() && !door.stop.is_cancelled() && !door.finish.is_cancelled() {
            return Err(ReceiverError::Ended { what: "accepting connections" });
        }
    }
    Ok(())
}

fn ssh_config(key: PrivateKey, limits: &crate::Limits) -> russh::server::Config {
    let idle = Duration::from_millis(limits.idle_ms);
    russh::server::Config {
        server_id: SshId::Standard("SSH-2.0-Berth".into()),
        methods: MethodSet::from(&[MethodKind::PublicKey][..]),
        auth_rejection_time: Duration::from_millis(50),
        // OpenSSH's first try is "none", to learn the methods.
        auth_rejection_time_initial: Some(Duration::ZERO),
        keys: vec![key],
        // Packs are compressed already, and a stranger's zlib stream is one parser more.
        preferred: Preferred {
            kex: KEX.into(),
            mac: MACS.into(),
            compression: vec![compression::NONE].into(),
            ..Preferred::DEFAULT
        },
        max_auth_attempts: limits.key_tries,
        inactivity_timeout: Some(idle),
        keepalive_interval: Some(idle / KEEP_ALIVES),
        keepalive_max: 3,
        nodelay: true,
        ..russh::server::Config::default()
    }
}

/// Accepts until `stop`, then ends what is open.
async fn accept<D: Desk>(
    door: Arc<Door<D>>,
    ssh: Arc<russh::server::Config>,
    listener: TcpListener,
    places: Arc<Places>,
) {
    let mut open = JoinSet::new();
    loop {
        tokio::select! {
            () = door.stop.cancelled() => break,
            () = door.finish.cancelled() => break,
            Some(_) = open.join_next() => {}
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => match places.take(peer.ip().to_canonical()) {
                    Some(place) => {
                        open.spawn(connection(Arc::clone(&door), Arc::clone(&ssh), stream, peer, place));
                    }
                    None => drop(stream),
                },
                Err(cause) => {
                    tracing::warn!(error = %cause, "could not accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
    drop(listener);
    while open.join_next().await.is_some() {}
}

async fn connection<D: Desk>(
    door: Arc<Door<D>>,
    ssh: Arc<russh::server::Config>,
    stream: TcpStream,
    peer: SocketAddr,
    _place: Place,
) {
    let limits = &door.config.limits;
    let (login, whole) = (Duration::from_millis(limits.login_ms), Duration::from_millis(limits.connection_ms));
    let _ = stream.set_nodelay(true);
    // A second handle on the socket: shutting it down ends russh's task whatever it waits for.
    let Ok((stream, plug)) = twice(stream) else { return };
    let cut = CancellationToken::new();
    let (signed_in, mut is_signed_in) = watch::channel(false);
    let tasks = TaskTracker::new();
    let sessions = Arc::new(Semaphore::new(limits.sessions_per_connection));
    let client = Client {
        door: Arc::clone(&door),
        origin: peer.ip().to_canonical(),
        actor: None,
        signed_in,
        waiting: HashMap::new(),
        sessions: Arc::clone(&sessions),
        tasks: tasks.clone(),
        cut: cut.clone(),
    };
    let run = async {
        let running = match tokio::time::timeout(login, russh::server::run_stream(ssh, stream, client)).await {
            Ok(Ok(running)) => running,
            Ok(Err(_)) | Err(_) => return,
        };
        let handle = running.handle();
        tokio::pin!(running);
        let bye = tokio::select! {
            ended = &mut running => {
                if let Err(error) = ended {
                    tracing::debug!(%error, "a connection ended");
                }
                return;
            }
            () = nobody(&mut is_signed_in, login) => "nobody signed in",
            () = tokio::time::sleep(whole) => "the connection was open for too long",
            () = door.stop.cancelled() => "this server is being restarted, try again",
            () = unused(&door.finish, &sessions, limits.sessions_per_connection, login) => "a newer server has taken over",
        };
        // A push whose receiver stops is told so by its hook, and git ends by itself.
        tasks.close();
        let _ = tokio::time::timeout(LAST_WORDS, tasks.wait()).await;
        let _ = tokio::time::timeout(GOODBYE, async {
            let _ = handle.disconnect(Disconnect::ByApplication, bye.to_owned(), String::new()).await;
            let _ = running.await;
        })
        .await;
    };
    run.await;
    cut.cancel();
    let _ = plug.shutdown(std::net::Shutdown::Both);
    tasks.close();
    tasks.wait().await;
}

/// Ends when nobody has signed in for so long.
async fn nobody(is_signed_in: &mut watch::Receiver<bool>, login: Duration) {
    if tokio::time::timeout(login, is_signed_in.wait_for(|yes| *yes)).await.is_ok() {
        std::future::pending().await
    }
}

/// Ends when a successor takes new connections and this one carries nothing any more: a client that keeps one open
/// for its next command would hold up its receiver's end.
async fn unused(finish: &CancellationToken, sessions: &Semaphore, all: usize, login: Duration) {
    finish.cancelled().await;
    // Who has just come in has not asked for anything yet.
    tokio::time::sleep(login).await;
    let all = u32::try_from(all).unwrap_or(u32::MAX);
    let _ = sessions.acquire_many(all).await;
}

fn twice(stream: TcpStream) -> std::io::Result<(TcpStream, std::net::TcpStream)> {
    let stream = stream.into_std()?;
    let plug = stream.try_clone()?;
    Ok((TcpStream::from_std(stream)?, plug))
}

/// One connection's side of SSH.
struct Client<D> {
    door: Arc<Door<D>>,
    origin: IpAddr,
    /// `None` also for one who came in while nobody could be looked up.
    actor: Option<Actor>,
    signed_in: watch::Sender<bool>,
    /// Open channels that have not asked for anything yet.
    waiting: HashMap<ChannelId, Waiting>,
    sessions: Arc<Semaphore>,
    tasks: TaskTracker,
    cut: CancellationToken,
}

struct Waiting {
    channel: Channel<Msg>,
    terminal: Option<Terminal>,
    protocol: Option<String>,
    permit: OwnedSemaphorePermit,
}

impl<D: Desk> Client<D> {
    /// Notes that the data is away: then who comes in has no rights, and is told why.
    fn away(&mut self, error: &DeskError) -> Auth {
        tracing::warn!(%error, "could not look up a key");
        self.actor = None;
        Auth::Accept
    }

    fn begin(&mut self, id: ChannelId, ask: Ask, session: &mut SshSession) -> Result<(), russh::Error> {
        let Some(waiting) = self.waiting.remove(&id) else { return session.channel_failure(id) };
        session.channel_success(id)?;
        let actor = self.actor.clone();
        let Waiting { channel, terminal, protocol, permit } = waiting;
        let one = Session { door: Arc::clone(&self.door), actor, channel, terminal, protocol, cut: self.cut.clone() };
        self.tasks.spawn(async move {
            session::run(one, ask).await;
            drop(permit);
        });
        Ok(())
    }
}

impl<D: Desk> Handler for Client<D> {
    type Error = russh::Error;

    // A stranger's key is turned away before its owner is asked to touch a token for a signature.
    async fn auth_publickey_offered(&mut self, _user: &str, offer: PublicKeyOffer<'_>) -> Result<Auth, Self::Error> {
        if !strong(offer.algorithm) {
            return Ok(Auth::reject());
        }
        Ok(match self.door.desk.key_is_known(&fingerprint(offer.public_key)).await {
            Ok(true) => Auth::Accept,
            Ok(false) => Auth::reject(),
            Err(error) => self.away(&error),
        })
    }

    // The key says who it is; the user name (`berth`, `git`, one's own) says nothing.
    async fn auth_publickey(&mut self, _user: &str, key: VerifiedPublicKey<'_>) -> Result<Auth, Self::Error> {
        if !strong(key.algorithm) {
            return Ok(Auth::reject());
        }
        Ok(match self.door.desk.actor_by_key(&fingerprint(key.public_key), self.origin).await {
            Ok(Some(actor)) => {
                self.actor = Some(actor);
                Auth::Accept
            }
            Ok(None) => Auth::reject(),
            Err(error) => self.away(&error),
        })
    }

    async fn auth_succeeded(&mut self, _session: &mut SshSession) -> Result<(), Self::Error> {
        let _ = self.signed_in.send(true);
        Ok(())
    }

    async fn channel_open_session(
        &mut self,
        channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        _session: &mut SshSession,
    ) -> Result<(), Self::Error> {
        // Dropping `reply` refuses.
        if let Ok(permit) = Arc::clone(&self.sessions).try_acquire_owned() {
            let id = channel.id();
            self.waiting.insert(id, Waiting { channel, terminal: None, protocol: None, permit });
            reply.accept().await;
        }
        Ok(())
    }

    async fn channel_close(&mut self, channel: ChannelId, _session: &mut SshSession) -> Result<(), Self::Error> {
        self.waiting.remove(&channel);
        Ok(())
    }

    async fn env_request(
        &mut self,
        channel: ChannelId,
        name: &str,
        value: &str,
        session: &mut SshSession,
    ) -> Result<(), Self::Error> {
        match self.waiting.get_mut(&channel) {
            Some(waiting) if name == "GIT_PROTOCOL" && is_git_protocol(value) => {
                waiting.protocol = Some(value.to_owned());
                session.channel_success(channel)
            }
            _ => session.channel_failure(channel),
        }
    }

    #[allow(clippy::too_many_arguments)]
    async fn pty_request(
        &mut self,
        channel: ChannelId,
        _term: &str,
        columns: u32,
        _rows: u32,
        _width: u32,
        _height: u32,
        _modes: &[(Pty, u32)],
        session: &mut SshSession,
    ) -> Result<(), Self::Error> {
        match self.waiting.get_mut(&channel) {
            Some(waiting) => {
                waiting.terminal = Some(Terminal { columns: usize::try_from(columns).unwrap_or(0) });
                session.channel_success(channel)
            }
            None => session.channel_failure(channel),
        }
    }

    async fn shell_request(&mut self, channel: ChannelId, session: &mut SshSession) -> Result<(), Self::Error> {
        self.begin(channel, Ask::Shell, session)
    }

    async fn exec_request(
        &mut self,
        channel: ChannelId,
        command: &[u8],
        session: &mut SshSession,
    ) -> Result<(), Self::Error> {
        self.begin(channel, Ask::Exec(Request::parse(command)), session)
    }

    async fn subsystem_request(
        &mut self,
        channel: ChannelId,
        _name: &str,
        session: &mut SshSession,
    ) -> Result<(), Self::Error> {
        session.channel_failure(channel)
    }

    async fn x11_request(
        &mut self,
        channel: ChannelId,
        _single: bool,
        _protocol: &str,
        _cookie: &str,
        _screen: u32,
        session: &mut SshSession,
    ) -> Result<(), Self::Error> {
        session.channel_failure(channel)
    }

    async fn agent_request(&mut self, channel: ChannelId, session: &mut SshSession) -> Result<bool, Self::Error> {
        session.channel_failure(channel)?;
        Ok(false)
    }
}

fn fingerprint(key: &PublicKey) -> String {
    key.fingerprint(HashAlg::Sha256).to_string()
}

/// RSA over SHA-1 is not: OpenSSH does not offer it any more either.
fn strong(algorithm: &Algorithm) -> bool {
    !matches!(algorithm, Algorithm::Rsa { hash: None } | Algorithm::Dsa)
}

/// protocol-v2: `version=2`, in time with more keys, colon-separated.
fn is_git_protocol(value: &str) -> bool {
    let fits = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'=' | b':' | b'-' | b'.');
    (1..=64).contains(&value.len()) && value.bytes().all(fits)
}

/// How many connections there are, together and by address.
struct Places {
    all: Arc<Semaphore>,
    by_address: Mutex<HashMap<IpAddr, usize>>,
    per_address: usize,
}

struct Place {
    places: Arc<Places>,
    address: IpAddr,
    _one: OwnedSemaphorePermit,
}

impl Places {
    fn new(all: usize, per_address: usize) -> Self {
        Self { all: Arc::new(Semaphore::new(all)), by_address: Mutex::default(), per_address }
    }

    fn take(self: &Arc<Self>, address: IpAddr) -> Option<Place> {
        let one = Arc::clone(&self.all).try_acquire_owned().ok()?;
        let mut by_address = self.by_address.lock().unwrap_or_else(PoisonError::into_inner);
        let open = by_address.entry(address).or_default();
        if *open >= self.per_address {
            return None;
        }
        *open += 1;
        Some(Place { places: Arc::clone(self), address, _one: one })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut by_address = self.places.by_address.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(open) = by_address.get_mut(&self.address) {
            *open -= 1;
            if *open == 0 {
                by_address.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_plain_git_protocol_is_passed_on() {
        for good in ["version=2", "version=1", "version=2:agent=x-1.0"] {
            assert!(is_git_protocol(good), "{good}");
        }
        for bad in ["", "version=2\nX=1", "a b", "$(id)", &"a".repeat(65)] {
            assert!(!is_git_protocol(bad), "{bad}");
        }
    }

    #[test]
    fn an_address_has_so_many_places_and_gets_them_back() {
        let places = Arc::new(Places::new(3, 2));
        let (a, b) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2]));
        let (first, _second) = (places.take(a), places.take(a));
        assert!(first.is_some() && places.take(a).is_none());
        let _other = places.take(b);
        assert!(places.take(b).is_none(), "all are taken");
        drop(first);
        assert!(places.take(a).is_some());
    }
}
