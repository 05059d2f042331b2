//! The network of one slice: a routed veth pair for each sandbox, and one nftables table.
//!
//! No bridge: each sandbox has a /32 of its own and its source address is pinned to its link. Out
//! to the internet only; to neighbours, to the server and to private networks nothing.
//! An address without a link leads nowhere: a health check or a request for an instance that is gone
//! (or not connected yet) must not leave by the server's default route and be answered by a stranger.
//! What leaves for the internet is counted by named counters, one a sandbox that is metered. They outlive its link.
//! Sets, maps and counters change by element, the table's chains are only replaced as a whole, in one batch.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::io;
use std::net::Ipv4Addr;
use std::process::Stdio;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ipnet::Ipv4Net;
use nix::net::if_::if_nametoindex;
use rtnetlink::packet_route::link::{InfoData, InfoVeth};
use rtnetlink::{Handle, LinkUnspec, LinkVeth, RouteMessageBuilder};
use tokio::io::AsyncWriteExt;
use tokio_util::task::AbortOnDropHandle;

use crate::counters;

const NFT_TIMEOUT: Duration = Duration::from_secs(20);
const LINK_TIMEOUT: Duration = Duration::from_secs(5);
/// Conntrack is shared by all: no one sandbox may fill it.
const CONNECTIONS_MAX: u32 = 2_000;
const CONNECTIONS_PER_SECOND_MAX: u32 = 500;

/// What never lies on the internet. Documentation ranges are not private: some servers' own package
/// indexes live there.
const CLOSED: &str = "0.0.0.0/8, 10.0.0.0/8, 100.64.0.0/10, 127.0.0.0/8, 169.254.0.0/16, 172.16.0.0/12, \
                      192.0.0.0/24, 192.168.0.0/16, 198.18.0.0/15, 224.0.0.0/3";

#[derive(Debug, thiserror::Error)]
pub enum NetError {
    #[error("could not run nft")]
    RunNft(#[source] io::Error),
    #[error("nft refused: {said}")]
    Nft { said: String },
    #[error("{doing} of {link} failed")]
    Link {
        doing: &'static str,
        link: String,
        #[source]
        cause: Box<rtnetlink::Error>,
    },
    #[error("{doing} of {link} failed")]
    Io {
        doing: &'static str,
        link: String,
        #[source]
        cause: io::Error,
    },
    #[error("{doing} of {link} took longer than {LINK_TIMEOUT:?}")]
    Timeout { doing: &'static str, link: String },
}

/// Who a sandbox is to the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    App,
    /// May also reach the operator's package indexes and proxies, wherever they are.
    Build,
}

/// The counter of what a sandbox sends to the internet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counted {
    /// Of letters and digits, never given twice.
    pub name: String,
    /// What it said when it was last read: one that was lost (`nft flush ruleset`) goes on from there.
    pub bytes: u64,
}

#[derive(Debug, Clone)]
pub struct Network {
    slice: u32,
    subnet: Ipv4Net,
    exceptions: Vec<Ipv4Net>,
    public_ports: Vec<u16>,
    mtu: u32,
    /// Which counter each address has.
    counted: Arc<Mutex<HashMap<Ipv4Addr, String>>>,
}

/// A slice's own.
pub fn table_of(slice: u32) -> String {
    format!("berth-{slice}")
}

impl Network {
    pub fn new(slice: u32, subnet: Ipv4Net, exceptions: Vec<Ipv4Net>, public_ports: Vec<u16>) -> Self {
        Self { slice, subnet, exceptions, public_ports, mtu: uplink_mtu(), counted: Arc::default() }
    }

    fn table(&self) -> String {
        table_of(self.slice)
    }

    fn counted(&self) -> MutexGuard<'_, HashMap<Ipv4Addr, String>> {
        self.counted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What every counter says.
    pub fn sent(&self) -> io::Result<HashMap<String, u64>> {
        counters::all(&self.table())
    }

    pub fn sent_by(&self, counter: &str) -> io::Result<Option<u64>> {
        counters::one(&self.table(), counter)
    }

    /// Where there is a counter of the name, it stays as it is.
    fn count(&self, address: Ipv4Addr, counted: &Counted) -> String {
        let (t, Counted { name, bytes }) = (self.table(), counted);
        self.counted().insert(address, name.clone());
        format!(
            "add counter inet {t} {name} {{ packets 0 bytes {bytes} }}\nadd element inet {t} sent {{ {address} : \"{name}\" }}\n"
        )
    }

    /// Makes a counter that was lost again.
    pub async fn count_again(&self, address: Ipv4Addr, counted: &Counted) -> Result<(), NetError> {
        nft(&self.count(address, counted)).await
    }

    /// Read it first.
    pub async fn remove_counter(&self, counter: &str) -> Result<(), NetError> {
        let t = self.table();
        nft(&format!("add counter inet {t} {counter}\ndelete counter inet {t} {counter}\n")).await
    }

    /// The host's end of a sandbox's veth pair; at most 15 characters.
    fn link(&self, address: Ipv4Addr) -> String {
        let low = u32::from(address) & !u32::from(self.subnet.netmask());
        format!("b{}x{low:x}", self.slice)
    }

    /// The host's address on every link: the subnet's first.
    pub fn gateway(&self) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(self.subnet.network()) + 1)
    }

    /// Lays the table; sets keep their elements when it is there already.
    pub async fn set_up(&self, resolvers: &[Ipv4Addr]) -> Result<(), NetError> {
        nft(&self.ruleset(resolvers)).await?;
        ip_forward::on().map_err(|cause| NetError::Io { doing: "ip_forward", link: "all".to_owned(), cause })
    }

    fn ruleset(&self, resolvers: &[Ipv4Addr]) -> String {
        let (t, links) = (self.table(), format!("\"b{}x*\"", self.slice));
        let subnet = self.subnet;
        let mut closed = CLOSED.to_owned();
        for network in connected_networks() {
            let _ = write!(closed, ", {network}");
        }
        let mut text = format!(
            "add table inet {t}
flush table inet {t}
table inet {t} {{
  set inst {{ type ifname . ipv4_addr; }}
  set builders {{ type ifname; }}
  set resolvers {{ type ipv4_addr; }}
  set closed {{ type ipv4_addr; flags interval; auto-merge; }}
  set exceptions {{ type ipv4_addr; flags interval; auto-merge; }}
  set ports {{ type inet_service; }}
  set open {{ type ipv4_addr; size 65535; flags dynamic; }}
  set opened {{ type ipv4_addr; size 65535; flags dynamic; timeout 10s; }}
  map sent {{ type ipv4_addr : counter; }}
  chain input {{ type filter hook input priority -10; iifname {links} jump to_host; }}
  chain to_host {{
    ct state established,related accept
    tcp dport @ports accept
    counter reject
  }}
  chain forward {{
    type filter hook forward priority -10;
    iifname {links} jump out
    oifname {links} ct state established,related accept
    oifname {links} counter reject
  }}
  chain out {{
    meta nfproto ipv6 drop
    iifname . ip saddr != @inst counter drop
    ct state established,related accept
    oifname {links} counter reject
    ct state new add @open {{ ip saddr ct count over {CONNECTIONS_MAX} }} counter reject
    ct state new update @opened {{ ip saddr limit rate over {CONNECTIONS_PER_SECOND_MAX}/second burst {CONNECTIONS_PER_SECOND_MAX} packets }} counter reject
    ip daddr @resolvers meta l4proto {{ tcp, udp }} th dport 53 accept
    iifname @builders ip daddr @exceptions accept
    ip daddr @closed counter reject
    tcp dport {{ 25, 465, 587 }} counter reject
    accept
  }}
  chain leaving {{ type filter hook forward priority 10; iifname {links} oifname != {links} jump leaves; }}
  chain leaves {{
    ip daddr @resolvers meta l4proto {{ tcp, udp }} th dport 53 return
    counter name ip saddr map @sent
  }}
  chain output {{ type filter hook output priority -10; ip daddr {subnet} oifname != \"lo\" oifname != {links} jump astray; }}
  chain astray {{
    meta l4proto tcp counter reject with tcp reset
    counter reject
  }}
  chain post {{ type nat hook postrouting priority srcnat; ip saddr {subnet} oifname != {links} masquerade; }}
}}
flush set inet {t} resolvers
flush set inet {t} closed
flush set inet {t} exceptions
flush set inet {t} ports
add element inet {t} closed {{ {closed} }}
"
        );
        for (set, elements) in [
            ("resolvers", join(resolvers)),
            ("exceptions", join(&self.exceptions)),
            ("ports", join(&self.public_ports)),
        ] {
            if !elements.is_empty() {
                let _ = writeln!(text, "add element inet {t} {set} {{ {elements} }}");
            }
        }
        text
    }

    /// Connects the sandbox whose first process is `pid` (created, not started).
    pub async fn connect(
        &self,
        address: Ipv4Addr,
        kind: Kind,
        counted: Option<&Counted>,
        pid: i32,
    ) -> Result<(), NetError> {
        let link = self.link(address);
        self.permit(&link, address, kind, counted).await?;
        let made = timed("making", &link, self.make(&link, address, pid)).await;
        if made.is_err() {
            self.disconnect(address).await?;
        }
        made
    }

    async fn permit(
        &self,
        link: &str,
        address: Ipv4Addr,
        kind: Kind,
        counted: Option<&Counted>,
    ) -> Result<(), NetError> {
        let t = self.table();
        let mut text = format!("add element inet {t} inst {{ \"{link}\" . {address} }}\n");
        if kind == Kind::Build {
            let _ = writeln!(text, "add element inet {t} builders {{ \"{link}\" }}");
        }
        if let Some(counted) = counted {
            text.push_str(&self.count(address, counted));
        }
        nft(&text).await
    }

    async fn make(&self, link: &str, address: Ipv4Addr, pid: i32) -> Result<(), NetError> {
        let (handle, _connection) = netlink(link)?;
        let failed = |doing| move |cause| NetError::Link { doing, link: link.to_owned(), cause: Box::new(cause) };
        // Left by a sandbox that is only just gone: the kernel removes links a little later.
        remove(&handle, link).await?;
        let pid_given = u32::try_from(pid).unwrap_or(0);
        let peer = LinkUnspec::new_with_name("eth0").mtu(self.mtu).setns_by_pid(pid_given).build();
        let pair = LinkVeth::new(link, "eth0").mtu(self.mtu).set_info_data(InfoData::Veth(InfoVeth::Peer(peer)));
        handle.link().add(pair.build()).execute().await.map_err(failed("making"))?;
        let index = index_of(link)?;
        handle.link().set(LinkUnspec::new_with_index(index).up().build()).execute().await.map_err(failed("raising"))?;
        handle.address().add(index, self.gateway().into(), 32).execute().await.map_err(failed("addressing"))?;
        let route = RouteMessageBuilder::<Ipv4Addr>::new().destination_prefix(address, 32).output_interface(index);
        handle.route().add(route.build()).execute().await.map_err(failed("routing"))?;
        let filter = format!("/proc/sys/net/ipv4/conf/{link}/rp_filter");
        std::fs::write(filter, "1").map_err(|cause| NetError::Io {
            doing: "pinning the source",
            link: link.to_owned(),
            cause,
        })?;
        self.furnish(link, address, pid).await
    }

    /// Inside: the address, the way out, and loopback. On a thread of its own, which ends with it,
    /// since a thread cannot come back from another network namespace unnoticed.
    async fn furnish(&self, link: &str, address: Ipv4Addr, pid: i32) -> Result<(), NetError> {
        let (gateway, name) = (self.gateway(), link.to_owned());
        let (done, answer) = tokio::sync::oneshot::channel();
        let io = |doing, link: &str, cause| NetError::Io { doing, link: link.to_owned(), cause };
        std::thread::Builder::new()
            .name("netns".to_owned())
            .spawn(move || {
                let work = || -> Result<(), NetError> {
                    let namespace = std::fs::File::open(format!("/proc/{pid}/ns/net"))
                        .map_err(|cause| io("finding the namespace", &name, cause))?;
                    nix::sched::setns(namespace, nix::sched::CloneFlags::CLONE_NEWNET)
                        .map_err(|e| io("entering the namespace", &name, e.into()))?;
                    tokio::runtime::Builder::new_current_thread()
                        .enable_all()
                        .build()
                        .map_err(|cause| io("entering the namespace", &name, cause))?
                        .block_on(inside(&name, gateway, address))
                };
                // Whoever waited may have given up: then nobody needs the answer.
                let _ = done.send(work());
            })
            .map_err(|cause| io("entering the namespace", link, cause))?;
        answer.await.unwrap_or_else(|_| Err(io("entering the namespace", link, io::Error::other("thread ended"))))
    }

    /// Removes a sandbox's link and its permissions; nothing happens where there are none. Its counter stays.
    pub async fn disconnect(&self, address: Ipv4Addr) -> Result<(), NetError> {
        let link = self.link(address);
        let gone = timed("removing", &link, async {
            let (handle, _connection) = netlink(&link)?;
            remove(&handle, &link).await
        })
        .await;
        let t = self.table();
        // `add` first: deleting what is not there would be an error.
        let mut text = format!(
            "add element inet {t} inst {{ \"{link}\" . {address} }}\ndelete element inet {t} inst {{ \"{link}\" . {address} }}
add element inet {t} builders {{ \"{link}\" }}\ndelete element inet {t} builders {{ \"{link}\" }}\n"
        );
        let counter = self.counted().get(&address).cloned();
        if let Some(name) = counter {
            let element = format!("element inet {t} sent {{ {address}");
            let _ = writeln!(text, "add counter inet {t} {name}\nadd {element} : \"{name}\" }}\ndelete {element} }}");
        }
        nft(&text).await?;
        self.counted().remove(&address);
        gone
    }

    /// Removes links and permissions of all other addresses: those of a runner that was killed. No builder is
    /// left then.
    pub async fn keep_only(&self, kept: &[(Ipv4Addr, Counted)]) -> Result<(), NetError> {
        let t = self.table();
        let mut text = format!("flush set inet {t} inst\nflush set inet {t} builders\nflush map inet {t} sent\n");
        for (address, counted) in kept {
            let _ = writeln!(text, "add element inet {t} inst {{ \"{}\" . {address} }}", self.link(*address));
            text.push_str(&self.count(*address, counted));
        }
        nft(&text).await?;
        let kept: Vec<String> = kept.iter().map(|(address, _)| self.link(*address)).collect();
        self.remove_links(|name| !kept.iter().any(|link| link == name)).await
    }

    async fn remove_links(&self, which: impl Fn(&str) -> bool) -> Result<(), NetError> {
        let prefix = format!("b{}x", self.slice);
        let io = |cause| NetError::Io { doing: "listing", link: prefix.clone(), cause };
        for entry in std::fs::read_dir("/sys/class/net").map_err(io)? {
            let name = entry.map_err(io)?.file_name().to_string_lossy().into_owned();
            if name.starts_with(&prefix) && which(&name) {
                let (handle, _connection) = netlink(&name)?;
                timed("removing", &name, remove(&handle, &name)).await?;
            }
        }
        Ok(())
    }

    /// Removes every link of the slice, the table, and `ip_forward` where no other Berth needs it.
    pub async fn leave_nothing(&self) -> Result<(), NetError> {
        self.remove_links(|_| true).await?;
        let t = self.table();
        nft(&format!("add table inet {t}\ndelete table inet {t}\n")).await?;
        let tables = nft_says(&["list", "tables", "inet"], "").await?;
        if !tables.lines().any(|l| l.starts_with("table inet berth-")) {
            ip_forward::back().map_err(|cause| NetError::Io { doing: "ip_forward", link: "all".to_owned(), cause })?;
        }
        Ok(())
    }
}

async fn inside(link: &str, gateway: Ipv4Addr, address: Ipv4Addr) -> Result<(), NetError> {
    let failed = |doing| move |cause| NetError::Link { doing, link: link.to_owned(), cause: Box::new(cause) };
    let (handle, _connection) = netlink(link)?;
    for name in ["lo", "eth0"] {
        let up = LinkUnspec::new_with_index(index_of(name)?).up().build();
        handle.link().set(up).execute().await.map_err(failed("raising the inner end"))?;
    }
    let index = index_of("eth0")?;
    handle.address().add(index, address.into(), 32).execute().await.map_err(failed("addressing the inner end"))?;
    let near = RouteMessageBuilder::<Ipv4Addr>::new()
        .destination_prefix(gateway, 32)
        .output_interface(index)
        .scope(rtnetlink::packet_route::route::RouteScope::Link);
    handle.route().add(near.build()).execute().await.map_err(failed("routing the inner end"))?;
    let out = RouteMessageBuilder::<Ipv4Addr>::new().gateway(gateway).output_interface(index);
    handle.route().add(out.build()).execute().await.map_err(failed("routing the inner end"))
}

fn netlink(link: &str) -> Result<(Handle, AbortOnDropHandle<()>), NetError> {
    let (connection, handle, _) = rtnetlink::new_connection().map_err(|cause| NetError::Io {
        doing: "opening netlink",
        link: link.to_owned(),
        cause,
    })?;
    Ok((handle, AbortOnDropHandle::new(tokio::spawn(connection))))
}

fn index_of(link: &str) -> Result<u32, NetError> {
    if_nametoindex(link).map_err(|e| NetError::Io { doing: "finding", link: link.to_owned(), cause: e.into() })
}

async fn remove(handle: &Handle, link: &str) -> Result<(), NetError> {
    let Ok(index) = if_nametoindex(link) else { return Ok(()) };
    match handle.link().del(index).execute().await {
        Err(cause) if if_nametoindex(link).is_ok() => {
            Err(NetError::Link { doing: "removing", link: link.to_owned(), cause: Box::new(cause) })
        }
        _ => Ok(()),
    }
}

async fn timed<T>(
    doing: &'static str,
    link: &str,
    work: impl Future<Output = Result<T, NetError>>,
) -> Result<T, NetError> {
    let late = |_| NetError::Timeout { doing, link: link.to_owned() };
    tokio::time::timeout(LINK_TIMEOUT, work).await.map_err(late)?
}

async fn nft(text: &str) -> Result<(), NetError> {
    nft_says(&["-f", "-"], text).await.map(drop)
}

async fn nft_says(args: &[&str], text: &str) -> Result<String, NetError> {
    let mut child = tokio::process::Command::new("nft")
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(NetError::RunNft)?;
    let work = async {
        if let Some(mut input) = child.stdin.take() {
            input.write_all(text.as_bytes()).await?;
        }
        child.wait_with_output().await
    };
    let output = tokio::time::timeout(NFT_TIMEOUT, work)
        .await
        .map_err(|_| NetError::Nft { said: format!("no answer within {NFT_TIMEOUT:?}") })?
        .map_err(NetError::RunNft)?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        Err(NetError::Nft { said: String::from_utf8_lossy(&output.stderr).trim().to_owned() })
    }
}

fn join<T: ToString>(all: &[T]) -> String {
    all.iter().map(T::to_string).collect::<Vec<_>>().join(", ")
}

/// Rows of `/proc/net/route`: (interface, destination, gateway, mask).
fn routes() -> Vec<(String, Ipv4Addr, Ipv4Addr, Ipv4Addr)> {
    let text = std::fs::read_to_string("/proc/net/route").unwrap_or_default();
    // The kernel prints the address's bytes as one number of the host.
    let address = |hex: &str| u32::from_str_radix(hex, 16).ok().map(|n| Ipv4Addr::from(n.to_ne_bytes()));
    text.lines()
        .skip(1)
        .filter_map(|line| {
            let at: Vec<&str> = line.split_whitespace().collect();
            Some(((*at.first()?).to_owned(), address(at.get(1)?)?, address(at.get(2)?)?, address(at.get(7)?)?))
        })
        .collect()
}

/// The server's own networks: nothing that a customer should see.
fn connected_networks() -> Vec<Ipv4Net> {
    let mut networks: Vec<Ipv4Net> = routes()
        .into_iter()
        .filter(|(_, destination, gateway, _)| gateway.is_unspecified() && !destination.is_unspecified())
        .filter_map(|(_, destination, _, mask)| Ipv4Net::with_netmask(destination, mask).ok())
        // A sandbox's own /32: its neighbours are refused by their link.
        .filter(|n| n.prefix_len() < 32)
        .collect();
    networks.sort();
    networks.dedup();
    networks
}

fn uplink_mtu() -> u32 {
    routes()
        .into_iter()
        .find(|(_, destination, ..)| destination.is_unspecified())
        .and_then(|(link, ..)| std::fs::read_to_string(format!("/sys/class/net/{link}/mtu")).ok())
        .and_then(|mtu| mtu.trim().parse().ok())
        .unwrap_or(1500)
}

/// `net.ipv4.ip_forward`, shared by all slices: what it was lies in a file until the last one goes.
mod ip_forward {
    use std::fs::{self, File, OpenOptions};
    use std::io::{self, Read, Write};
    use std::os::unix::fs::MetadataExt;

    use nix::fcntl::{Flock, FlockArg};

    const SETTING: &str = "/proc/sys/net/ipv4/ip_forward";
    const DIR: &str = "/run/berth";
    const WAS: &str = "/run/berth/ip_forward.was";

    fn locked() -> io::Result<Flock<File>> {
        fs::create_dir_all(DIR)?;
        loop {
            let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(WAS)?;
            let file = Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, e)| io::Error::from(e))?;
            // Whoever held it before may have removed it: then the lock is on a file of nobody's.
            if fs::metadata(WAS).is_ok_and(|now| file.metadata().is_ok_and(|held| held.ino() == now.ino())) {
                return Ok(file);
            }
        }
    }

    pub fn on() -> io::Result<()> {
        let mut was = locked()?;
        let mut text = String::new();
        was.read_to_string(&mut text)?;
        if text.is_empty() {
            was.write_all(&fs::read(SETTING)?)?;
        }
        fs::write(SETTING, "1")
    }

    pub fn back() -> io::Result<()> {
        let mut was = locked()?;
        let mut text = String::new();
        was.read_to_string(&mut text)?;
        if !text.is_empty() {
            fs::write(SETTING, &text)?;
        }
        fs::remove_file(WAS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_links_name_fits_the_kernel_and_is_its_slices_own() {
        let network = Network::new(4_000, "10.100.0.0/16".parse().unwrap(), vec![], vec![]);
        let link = network.link("10.100.255.254".parse().unwrap());
        assert_eq!(link, "b4000xfffe");
        assert!(link.len() <= 15);
        assert_eq!(network.gateway().to_string(), "10.100.0.1");
    }
}
