//! The read-only root under every sandbox: empty places, a small `/etc`, and links into `/usr`,
//! which is the server's own (the stack `host`), mounted over it.

use std::fs;
use std::io;
use std::net::Ipv4Addr;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

const DIRS: [&str; 17] = [
    "app",
    "cache",
    "dev",
    "etc",
    "home",
    "mnt",
    "opt",
    "opt/berth",
    "proc",
    "repo",
    "root",
    "run",
    "srv",
    "sys",
    "usr",
    "var",
    "work",
];
const LINKS: [(&str, &str); 6] = [
    ("bin", "usr/bin"),
    ("sbin", "usr/sbin"),
    ("lib", "usr/lib"),
    ("lib64", "usr/lib64"),
    ("var/run", "/run"),
    ("var/tmp", "/tmp"),
];
/// What programs of the stack expect to find, as the server has it.
const COPIED: [&str; 12] = [
    "alternatives",
    "ca-certificates.conf",
    "debian_version",
    "ld.so.cache",
    "ld.so.conf",
    "ld.so.conf.d",
    "mime.types",
    "os-release",
    "protocols",
    "services",
    "ssl/certs",
    "ssl/openssl.cnf",
];

/// Makes it where it is not there yet.
pub fn make(root: &Path, resolvers: &[Ipv4Addr]) -> io::Result<()> {
    let etc = root.join("etc");
    for dir in DIRS {
        fs::create_dir_all(root.join(dir))?;
        fs::set_permissions(root.join(dir), fs::Permissions::from_mode(0o755))?;
    }
    fs::set_permissions(root, fs::Permissions::from_mode(0o755))?;
    // runc copies this mode onto the tmpfs that it mounts there.
    fs::create_dir_all(root.join("tmp"))?;
    fs::set_permissions(root.join("tmp"), fs::Permissions::from_mode(0o1777))?;
    for (link, to) in LINKS {
        if fs::symlink_metadata(root.join(link)).is_err() {
            symlink(to, root.join(link))?;
        }
    }
    for name in COPIED {
        copy(&Path::new("/etc").join(name), &etc.join(name), name == "alternatives")?;
    }
    let nameservers: String = resolvers.iter().map(|r| format!("nameserver {r}\n")).collect();
    for (name, text) in [
        ("passwd", "root:x:0:0:root:/root:/usr/sbin/nologin\napp:x:1000:1000:app:/app:/bin/bash\n"),
        ("group", "root:x:0:\napp:x:1000:\n"),
        ("hosts", "127.0.0.1 localhost\n"),
        ("host.conf", "multi on\n"),
        ("nsswitch.conf", "passwd: files\ngroup: files\nhosts: files dns\nservices: files\nprotocols: files\n"),
        ("resolv.conf", &format!("{nameservers}options edns0\n")),
        ("timezone", "Etc/UTC\n"),
    ] {
        place(&etc.join(name), text.as_bytes())?;
    }
    Ok(())
}

/// Copies what links point to, not the links: they would lead out of `/etc`. `alternatives` alone
/// keeps its links, which lead into `/usr`.
fn copy(from: &Path, to: &Path, keep_links: bool) -> io::Result<()> {
    let Ok(link) = fs::symlink_metadata(from) else { return Ok(()) };
    if keep_links && link.is_symlink() {
        let target = fs::read_link(from)?;
        if fs::symlink_metadata(to).is_err() {
            symlink(target, to)?;
        }
        return Ok(());
    }
    // A link to nowhere is skipped.
    let Ok(kind) = fs::metadata(from) else { return Ok(()) };
    if kind.is_dir() {
        fs::create_dir_all(to)?;
        fs::set_permissions(to, fs::Permissions::from_mode(0o755))?;
        for entry in fs::read_dir(from)? {
            let name = entry?.file_name();
            copy(&from.join(&name), &to.join(&name), keep_links)?;
        }
    } else if kind.is_file() {
        if let Some(above) = to.parent() {
            fs::create_dir_all(above)?;
        }
        place(to, &fs::read(from)?)?;
    }
    Ok(())
}

/// Running apps see these files: what is as it should be is left alone, the rest changes at once.
fn place(path: &Path, content: &[u8]) -> io::Result<()> {
    if fs::read(path).is_ok_and(|there| there == content) {
        return Ok(());
    }
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let new = path.with_file_name(name);
    fs::write(&new, content)?;
    fs::set_permissions(&new, fs::Permissions::from_mode(0o644))?;
    fs::rename(new, path)
}

/// The server's resolvers that a sandbox can reach: not those on its loopback.
pub fn resolvers() -> Vec<Ipv4Addr> {
    ["/etc/resolv.conf", "/run/systemd/resolve/resolv.conf"]
        .iter()
        .map(|path| {
            let text = fs::read_to_string(path).unwrap_or_default();
            text.lines()
                .filter_map(|l| l.trim().strip_prefix("nameserver")?.trim().parse::<Ipv4Addr>().ok())
                .filter(|a| !a.is_loopback() && !a.is_unspecified())
                .collect::<Vec<_>>()
        })
        .find(|found| !found.is_empty())
        .unwrap_or_default()
}
