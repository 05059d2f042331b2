//! The sockets of an installation: the supervisor opens them once, and they stay when a role is replaced, or itself.

use std::fs;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::Arc;

use commands::Urls;
use nix::sys::stat::{Mode, umask};
use serde::{Deserialize, Serialize};

use crate::cli::Up;
use crate::slice::{Slice, User};
use crate::up::{UpError, doing};

/// The sockets that roles listen on; they stay when a role ends, and so does who waits on them.
#[derive(Debug, Serialize, Deserialize)]
pub struct Listeners<S = Arc<OwnedFd>> {
    pub http: (S, SocketAddr),
    pub ssh: (S, SocketAddr),
    pub coordinator: S,
    pub logs: S,
    pub web: S,
    pub runner: S,
}

/// As numbers, on their way through an `exec`.
pub type HeldListeners = Listeners<RawFd>;

impl HeldListeners {
    pub fn numbers(&self) -> [RawFd; 6] {
        [self.http.0, self.ssh.0, self.coordinator, self.logs, self.web, self.runner]
    }

    /// Of a supervisor that went on as this one.
    pub fn resume(&self) -> io::Result<Listeners> {
        let take = |fd: RawFd| crate::resume::take(fd).map(Arc::new);
        Ok(Listeners {
            http: (take(self.http.0)?, self.http.1),
            ssh: (take(self.ssh.0)?, self.ssh.1),
            coordinator: take(self.coordinator)?,
            logs: take(self.logs)?,
            web: take(self.web)?,
            runner: take(self.runner)?,
        })
    }
}

impl Listeners {
    pub fn open(settings: &Up, slice: &Slice) -> Result<Self, UpError> {
        let socket = |name: &str, owner: u32, group: User| {
            let listener = unix_listener(&slice.run().join(name), owner, slice.uid(group), 0o660)?;
            Ok::<_, UpError>(Arc::new(listener.into()))
        };
        Ok(Self {
            http: tcp_listener(settings.http)?,
            ssh: tcp_listener(settings.ssh)?,
            coordinator: socket("coordinator.sock", slice.uid(User::Control), User::ToCoordinator)?,
            logs: socket("logs.sock", slice.uid(User::Logs), User::ToLogs)?,
            web: socket("web.sock", slice.uid(User::Web), User::ToWeb)?,
            runner: socket("runner.sock", 0, User::ToRunner)?,
        })
    }

    pub fn held(&self) -> HeldListeners {
        let fd = |socket: &Arc<OwnedFd>| socket.as_raw_fd();
        Listeners {
            http: (fd(&self.http.0), self.http.1),
            ssh: (fd(&self.ssh.0), self.ssh.1),
            coordinator: fd(&self.coordinator),
            logs: fd(&self.logs),
            web: fd(&self.web),
            runner: fd(&self.runner),
        }
    }

    pub fn urls(&self, settings: &Up) -> Urls {
        let port = |address: SocketAddr, usual: u16| Some(address.port()).filter(|port| *port != usual);
        let http = port(self.http.1, 80);
        let site = settings.site_host.to_string();
        Urls {
            site: http.map_or_else(|| format!("http://{site}"), |port| format!("http://{site}:{port}")),
            apps_domain: settings.apps_domain.to_string(),
            apps_scheme: "http".to_owned(),
            apps_port: http,
            ssh: port(self.ssh.1, 22).map_or_else(|| format!("berth@{site}"), |port| format!("berth@{site}:{port}")),
        }
    }
}

/// A listening unix socket of `owner`, which by its mode the members of `group` may call.
pub fn unix_listener(path: &Path, owner: u32, group: u32, mode: u32) -> Result<UnixListener, UpError> {
    let listen = || -> io::Result<UnixListener> {
        // Nobody else comes in before it is given away.
        let before = umask(Mode::from_bits_truncate(0o177));
        let bound = UnixListener::bind(path);
        umask(before);
        let listener = bound?;
        chown(path, Some(owner), Some(group))?;
        fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
        listener.set_nonblocking(true)?;
        Ok(listener)
    };
    listen().map_err(doing(format!("listen on {}", path.display())))
}

/// A listening socket and the address it got.
fn tcp_listener(address: SocketAddr) -> Result<(Arc<OwnedFd>, SocketAddr), UpError> {
    let listen = || -> io::Result<(Arc<OwnedFd>, SocketAddr)> {
        let listener = TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        let got = listener.local_addr()?;
        Ok((Arc::new(listener.into()), got))
    };
    listen().map_err(doing(format!("listen on {address}")))
}
