//! What a client asks for in an exec request, parsed strictly: nothing here is a shell.

use domain::AppName;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Request {
    /// `git push`
    ReceivePack(AppName),
    /// `git fetch`, `git clone`
    UploadPack(AppName),
    /// A git command on a path that can be no app's.
    NoSuchApp(String),
    Help,
    Unknown(String),
}

/// The longest command worth reading: git's are below 100 bytes.
const COMMAND_BYTES_MAX: usize = 1_024;

impl Request {
    pub(crate) fn parse(command: &[u8]) -> Self {
        let shown = || printable(command);
        if command.len() > COMMAND_BYTES_MAX {
            return Self::Unknown(shown());
        }
        let Ok(text) = std::str::from_utf8(command) else { return Self::Unknown(shown()) };
        if matches!(text.trim(), "help" | "--help" | "-h") {
            return Self::Help;
        }
        let git = text.strip_prefix("git-").or_else(|| text.strip_prefix("git ")).and_then(|rest| rest.split_once(' '));
        let (path, request): (_, fn(AppName) -> Self) = match git {
            Some(("receive-pack", path)) => (path, Self::ReceivePack),
            Some(("upload-pack", path)) => (path, Self::UploadPack),
            _ => return Self::Unknown(shown()),
        };
        app(path).map_or_else(|| Self::NoSuchApp(printable(path.as_bytes())), request)
    }
}

/// `'shop.git'`, `'/shop.git'`, with or without quotes and `.git`. git quotes always; whatever
/// needs escaping within the quotes is no app's name.
fn app(path: &str) -> Option<AppName> {
    let bare = path.strip_prefix('\'').and_then(|rest| rest.strip_suffix('\'')).unwrap_or(path);
    let bare = bare.strip_prefix('/').unwrap_or(bare);
    bare.strip_suffix(".git").unwrap_or(bare).parse().ok()
}

fn printable(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes.get(..bytes.len().min(80)).unwrap_or_default());
    text.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_git_command_names_one_app() {
        let shop: AppName = "shop".parse().unwrap();
        for text in [
            "git-receive-pack 'shop.git'",
            "git-receive-pack '/shop.git'",
            "git receive-pack 'shop.git'",
            "git-receive-pack shop.git",
            "git-receive-pack '/shop'",
        ] {
            assert_eq!(Request::parse(text.as_bytes()), Request::ReceivePack(shop.clone()), "{text}");
        }
        assert_eq!(Request::parse(b"git-upload-pack '/shop.git'"), Request::UploadPack(shop));
        assert_eq!(Request::parse(b" help\n"), Request::Help);
    }

    #[test]
    fn nothing_that_a_shell_would_understand_is_an_app() {
        for path in [
            "'../../etc/passwd'",
            "'shop.git';id",
            "'shop.git' --upload-pack=id",
            "'shop'\\''x.git'",
            "'//shop.git'",
            "'shop.git/'",
            "--help",
            "''",
            "'$(id).git'",
            "'shop.git\n'",
            "'other/shop.git'",
            "''shop.git''",
        ] {
            let asked = format!("git-receive-pack {path}");
            assert!(matches!(Request::parse(asked.as_bytes()), Request::NoSuchApp(_)), "{asked}");
        }
        for command in [
            "",
            "sh",
            "scp -t /",
            "git-shell",
            "git-receive-pack",
            "git-upload-archive 'shop.git'",
            "git  receive-pack 'shop.git'",
        ] {
            assert!(matches!(Request::parse(command.as_bytes()), Request::Unknown(_)), "{command}");
        }
        assert!(matches!(Request::parse(&[b'a'; 1 << 20]), Request::Unknown(_)));
        assert!(matches!(Request::parse(&[0xff, 0xfe]), Request::Unknown(_)));
    }
}
