//! What a client asks for in an exec request, parsed strictly: nothing here is a shell.

use domain::AppName;

use crate::line;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Request {
    /// `git push`
    ReceivePack(AppName),
    /// `git fetch`, `git clone`
    UploadPack(AppName),
    /// A git command on a path that can be no app's.
    NoSuchApp(String),
    /// A command of the platform; none is a greeting.
    Words(Vec<String>),
    /// No command could be made of it; why.
    Unreadable(String),
}

/// Config vars have their values in the command; longer ones come by standard input.
const COMMAND_BYTES_MAX: usize = 96 << 10;

impl Request {
    pub(crate) fn parse(command: &[u8]) -> Self {
        if command.len() > COMMAND_BYTES_MAX {
            let message = format!("The command is longer than {} KiB.", COMMAND_BYTES_MAX >> 10);
            return Self::Unreadable(message);
        }
        let Ok(text) = std::str::from_utf8(command) else {
            return Self::Unreadable("The command is not UTF-8.".to_owned());
        };
        let git = text.strip_prefix("git-").or_else(|| text.strip_prefix("git ")).and_then(|rest| rest.split_once(' '));
        let (path, request): (_, fn(AppName) -> Self) = match git {
            Some(("receive-pack", path)) => (path, Self::ReceivePack),
            Some(("upload-pack", path)) => (path, Self::UploadPack),
            _ => return line::words(text).map_or_else(|cause| Self::Unreadable(cause.message()), Self::Words),
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
        assert_eq!(Request::parse(b" help\n"), Request::Words(vec!["help".to_owned()]));
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
            assert!(matches!(Request::parse(command.as_bytes()), Request::Words(_)), "{command}");
        }
        for command in [&[b'a'; 1 << 20][..], &[0xff, 0xfe], b"create it's"] {
            assert!(matches!(Request::parse(command), Request::Unreadable(_)));
        }
    }
}
