//! What runs beside git in a git sandbox: the `proc-receive` hook, which carries pushed refs, a
//! commit's tree and its history to the receiver and prints what it answers; `move`, which moves a
//! branch; `maintain`, which drops what nobody needs; `bundle`, which writes all of it as one; and
//! `restore`, which fills an empty repository with what the object store has.
//!
//! The hook decides nothing: which ref is deployed, what is refused and with which words, comes
//! from the receiver over one unix socket, whose path is in `BERTH_HOOK_SOCKET`. A frame is one
//! byte for its kind, four for its length (big-endian), and that many bytes:
//!
//! | from the hook | | from the receiver | |
//! | --- | --- | --- | --- |
//! | `r` | `OLD NEW REF`, one a ref | `l` | a line for the person who pushes |
//! | `.` | that were all refs | `d` | `COMMIT`: keep it, and send its tree |
//! | `i` | the commit's subject | `h` | `COMMIT KEPT...`: send what it has that those have not |
//! | `t` | a piece of the tree's tar | `o` | `REF` was taken |
//! | `e` | the tar is complete | `n` | `REF REASON`: was not |
//! | `b` | a piece of the git bundle | `.` | that were all answers |
//! | `f` | the bundle is complete; without a piece before it, there is nothing to send | `k` | `REF NEW OLD`: put the branch there |
//! | `k` | it is there | | |
//! | `x` | why it cannot be sent | | |
//!
//! `restore` reads the same frames on its standard input: `b` and `f` for each bundle, `.` after all.

use std::collections::HashSet;
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, ExitCode, Stdio};

/// gitprotocol-common(5): the largest pkt-line.
const PACKET_BYTES_MAX: usize = 65_520;
const FRAME_BYTES_MAX: usize = 64 << 10;
/// More refs than any honest push has.
const REFS_MAX: usize = 1_000;
/// `domain::wire::GIT_REF_MOVED`.
const REF_MOVED: u8 = 10;

pub fn run() -> ExitCode {
    let args: Vec<String> = std::env::args().collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let done = match words.as_slice() {
        [_, "hook", "move", name, new, old] => move_branch(name, new, old),
        [_, "hook", "maintain", keep @ ..] => maintain(keep),
        [_, "hook", "bundle", commits @ ..] => whole(commits),
        [_, "hook", "restore", head, branches @ ..] => restore(&mut io::stdin().lock(), head, branches),
        _ => receive().map(|()| ExitCode::SUCCESS),
    };
    done.unwrap_or_else(|cause| {
        say(&format!("The hook failed: {cause}"));
        ExitCode::FAILURE
    })
}

// ---- proc-receive ---------------------------------------------------------------------------

/// githooks(5), "proc-receive": version, commands, answers.
fn receive() -> io::Result<()> {
    let (mut stdin, mut stdout) = (io::stdin().lock(), io::stdout().lock());
    let version = packets(&mut stdin)?;
    let spoken = version.first().map(|line| line.split(|b| *b == 0).next().unwrap_or_default().trim_ascii_end());
    if spoken != Some(b"version=1") {
        return Err(bad("git speaks a version of proc-receive that is not 1"));
    }
    // No atomic, no push options: the repository's configuration offers neither.
    packet(&mut stdout, b"version=1\n")?;
    stdout.write_all(b"0000")?;
    stdout.flush()?;

    let commands = packets(&mut stdin)?;
    let mut refs = Vec::new();
    for line in commands {
        let line = String::from_utf8(line).map_err(|_| bad("a ref's name is not UTF-8"))?;
        refs.push(line.trim_end_matches('\n').to_owned());
    }
    let answers = match ask(&refs) {
        Ok(answers) => answers,
        Err(cause) => {
            say(&format!("The connection to Berth broke off ({cause})."));
            say("A deploy that has begun goes on; its page shows how it ends.");
            refs.iter().map(|line| format!("ng {} Berth is away, try again", name_of(line))).collect()
        }
    };
    for answer in answers {
        packet(&mut stdout, answer.as_bytes())?;
    }
    stdout.write_all(b"0000")?;
    stdout.flush()
}

fn name_of(command: &str) -> &str {
    command.splitn(3, ' ').nth(2).unwrap_or(command)
}

/// Tells the receiver what was pushed, does what it asks for, and returns git's answers.
fn ask(refs: &[String]) -> io::Result<Vec<String>> {
    let path = std::env::var_os("BERTH_HOOK_SOCKET").ok_or_else(|| bad("no socket was named"))?;
    let mut socket = UnixStream::connect(path)?;
    for line in refs {
        frame(&mut socket, b'r', line.as_bytes())?;
    }
    frame(&mut socket, b'.', b"")?;
    let mut answers = Vec::new();
    loop {
        let (kind, body) = read_frame(&mut socket)?;
        let text = String::from_utf8_lossy(&body);
        match kind {
            b'l' => say(&text),
            b'd' => {
                if let Err(cause) = send_tree(&mut socket, &text) {
                    // Refused halfway (too big), the receiver no longer listens, but still speaks.
                    let _ = frame(&mut socket, b'x', cause.to_string().as_bytes());
                }
            }
            b'h' => {
                if let Err(cause) = send_history(&mut socket, &text) {
                    let _ = frame(&mut socket, b'x', cause.to_string().as_bytes());
                }
            }
            b'k' => match keep(&text) {
                Ok(()) => frame(&mut socket, b'k', b"")?,
                Err(cause) => frame(&mut socket, b'x', cause.to_string().as_bytes())?,
            },
            b'o' => answers.push(format!("ok {text}")),
            b'n' => answers.push(format!("ng {text}")),
            b'.' => return Ok(answers),
            _ => return Err(bad("the receiver said something unknown")),
        }
    }
}

/// Keeps the commit under a hidden ref, so that it is not collected while no branch holds it, and
/// sends its tree as it was committed.
fn send_tree(socket: &mut UnixStream, commit: &str) -> io::Result<()> {
    keep_commit(commit)?;
    let subject = output(&["log", "-1", "--no-show-signature", "--encoding=UTF-8", "--format=%s", commit])?;
    let subject = subject.trim_ascii();
    frame(socket, b'i', subject.get(..subject.len().min(1_000)).unwrap_or_default())?;
    warn_of_what_is_missing(commit)?;

    if !send_output(socket, b't', &["archive", "--format=tar", commit])? {
        return Err(bad("git could not read the commit's tree"));
    }
    frame(socket, b'e', b"")
}

fn keep_commit(commit: &str) -> io::Result<()> {
    if commit.is_empty() || !commit.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err(bad("that is no commit"));
    }
    if output(&["cat-file", "-t", commit])?.trim_ascii() != b"commit" {
        return Err(bad("a branch must point to a commit"));
    }
    output(&["update-ref", &format!("refs/berth/commits/{commit}"), commit]).map(drop)
}

/// Puts a branch that is not deployed where the push wants it: `REF NEW OLD`, all zeros for none.
fn keep(words: &str) -> io::Result<()> {
    let words: Vec<&str> = words.rsplitn(3, ' ').collect();
    let [old, new, name] = words.as_slice() else { return Err(bad("that is no branch")) };
    if !name.starts_with("refs/heads/") {
        return Err(bad("that is no branch"));
    }
    // git compares under its lock.
    let moved = if new.bytes().all(|b| b == b'0') {
        quiet_output(&["update-ref", "-d", "--end-of-options", name, old])
    } else {
        quiet_output(&["update-ref", "--end-of-options", name, new, old])
    };
    moved.map(drop).ok_or_else(|| bad("it was moved meanwhile, or its name clashes with another branch"))
}

/// Sends what a commit has and the object store has not, as a bundle: with
/// those of former pushes it makes the repository again.
fn send_history(socket: &mut UnixStream, words: &str) -> io::Result<()> {
    let mut words = words.split(' ');
    let commit = words.next().unwrap_or_default();
    keep_commit(commit)?;
    let name = format!("refs/berth/commits/{commit}");
    // Only of what is here; more in a bundle than it need hold does no harm.
    let here = output(&["for-each-ref", "--format=%(objectname)", "refs/berth/commits"])?;
    let here: HashSet<&str> = std::str::from_utf8(&here).map_err(|_| bad("not a commit"))?.lines().collect();
    let kept: Vec<&str> = words.filter(|commit| here.contains(commit)).collect();
    // git makes no empty bundles.
    let new = [&["rev-list", "--max-count=1", name.as_str(), "--not"], kept.as_slice()].concat();
    if !output(&new)?.is_empty() {
        let bundle = [&["bundle", "create", "--quiet", "-", name.as_str(), "--not"], kept.as_slice()].concat();
        if !send_output(socket, b'b', &bundle)? {
            return Err(bad("git could not pack the commit's history"));
        }
    }
    frame(socket, b'f', b"")
}

/// Whether git ended well.
fn send_output(socket: &mut UnixStream, kind: u8, args: &[&str]) -> io::Result<bool> {
    let mut child = git(args).stdout(Stdio::piped()).spawn()?;
    let sent = send_all(socket, kind, &mut child);
    if sent.is_err() {
        let _ = child.kill();
    }
    let ended = child.wait()?;
    sent.map(|()| ended.success())
}

fn send_all(socket: &mut UnixStream, kind: u8, child: &mut Child) -> io::Result<()> {
    let mut written = child.stdout.take().ok_or_else(|| bad("git has no output"))?;
    let mut piece = vec![0; FRAME_BYTES_MAX];
    loop {
        let n = match written.read(&mut piece) {
            Ok(0) => return Ok(()),
            Ok(n) => n,
            Err(cause) if cause.kind() == ErrorKind::Interrupted => continue,
            Err(cause) => return Err(cause),
        };
        frame(socket, kind, piece.get(..n).unwrap_or_default())?;
    }
}

/// A tree may lack what its owner takes to be in it; better said before the build than guessed after.
fn warn_of_what_is_missing(commit: &str) -> io::Result<()> {
    // Only the links: modes of `ls-tree` come first in each entry.
    let tree = output(&["ls-tree", "-r", "-z", "--full-tree", commit])?;
    let submodules = tree.split(|b| *b == 0).filter(|entry| entry.starts_with(b"160000 "));
    for entry in submodules.take(20) {
        let path = entry.splitn(2, |b| *b == b'\t').nth(1).unwrap_or_default();
        say(&format!("warning: {} is a submodule; its files are not part of the push", printable(path)));
    }
    // Without .gitattributes git fails here: then there is nothing of LFS either.
    let attributes = quiet_output(&["cat-file", "blob", &format!("{commit}:.gitattributes")]).unwrap_or_default();
    if attributes.windows(10).any(|w| w == b"filter=lfs") {
        let pointer = "version https://git-lfs.github.com/spec/v1";
        let found = quiet_output(&["grep", "-l", "-z", "-F", pointer, commit]).unwrap_or_default();
        for path in found.split(|b| *b == 0).filter(|path| !path.is_empty()).take(20) {
            let path = path.splitn(2, |b| *b == b':').nth(1).unwrap_or(path);
            say(&format!("warning: {} is stored by Git LFS; only its pointer is part of the push", printable(path)));
        }
    }
    Ok(())
}

// ---- move -----------------------------------------------------------------------------------

/// `old` is a commit, or `none`. The branch may be there already: the answer of an earlier try
/// was lost.
fn move_branch(name: &str, new: &str, old: &str) -> io::Result<ExitCode> {
    let there = quiet_output(&["rev-parse", "--verify", "--quiet", "--end-of-options", name]).unwrap_or_default();
    let there = there.trim_ascii();
    // Whoever clones without naming a branch gets what is deployed.
    let _ = quiet_output(&["symbolic-ref", "HEAD", name]);
    if there == new.as_bytes() {
        return Ok(ExitCode::SUCCESS);
    }
    let expected = if old == "none" { "" } else { old };
    if there != expected.as_bytes() {
        return Ok(ExitCode::from(REF_MOVED));
    }
    // git compares once more under its lock. All zeros: it must not exist.
    let zeros = "0".repeat(new.len());
    let old = if old == "none" { zeros.as_str() } else { old };
    output(&["update-ref", "--end-of-options", name, new, old]).map(|_| ExitCode::SUCCESS)
}

// ---- maintain, bundle ------------------------------------------------------------------------

/// Nobody else is at work on the repository.
fn maintain(keep: &[&str]) -> io::Result<ExitCode> {
    unlock(std::path::Path::new("."))?;
    let refs = output(&["for-each-ref", "--format=%(refname)", "refs/berth/commits"])?;
    for name in String::from_utf8_lossy(&refs).lines() {
        if !name.rsplit('/').next().is_some_and(|commit| keep.contains(&commit)) {
            output(&["update-ref", "-d", name])?;
        }
    }
    // What pushes that were killed left.
    for dir in ["objects", "objects/pack"] {
        for entry in std::fs::read_dir(dir)?.flatten() {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            match (name.starts_with("tmp_") || name.starts_with("incoming-"), entry.file_type()?.is_dir()) {
                (true, true) => std::fs::remove_dir_all(entry.path())?,
                (true, false) => std::fs::remove_file(entry.path())?,
                (false, _) => {}
            }
        }
    }
    // Its own lock knows process numbers only, which begin anew in each sandbox.
    output(&["gc", "--force", "--quiet", "--prune=now"])?;
    println!("{}", size(std::path::Path::new("."))?);
    Ok(ExitCode::SUCCESS)
}

/// Removes the locks of a git that was killed: of refs, and of what lies beside them.
fn unlock(dir: &std::path::Path) -> io::Result<()> {
    for entry in std::fs::read_dir(dir)? {
        let (path, kind) = entry.and_then(|entry| Ok((entry.path(), entry.file_type()?)))?;
        if kind.is_dir() && path.components().any(|part| part.as_os_str() == "refs") {
            unlock(&path)?;
        } else if kind.is_file() && path.extension().is_some_and(|extension| extension == "lock") {
            std::fs::remove_file(path)?;
        }
    }
    Ok(())
}

/// What a folder takes on disk. Follows no link.
fn size(dir: &std::path::Path) -> io::Result<u64> {
    use std::os::unix::fs::MetadataExt;
    let mut bytes = 0;
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        let meta = entry.metadata()?;
        bytes += meta.blocks() * 512;
        if meta.is_dir() {
            bytes += size(&entry.path())?;
        }
    }
    Ok(bytes)
}

/// One bundle of pushed commits, each of which must be here, of the branches, and of all before them.
fn whole(commits: &[&str]) -> io::Result<ExitCode> {
    let names: Vec<String> = commits.iter().map(|commit| format!("refs/berth/commits/{commit}")).collect();
    for name in &names {
        output(&["rev-parse", "--verify", "--quiet", "--end-of-options", name])?;
    }
    let mut args = vec!["bundle", "create", "--quiet", "-"];
    args.extend(names.iter().map(String::as_str));
    args.push("--branches");
    let ended = git(&args).stdout(Stdio::inherit()).status()?;
    Ok(if ended.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

// ---- restore --------------------------------------------------------------------------------

/// `head` is the deploy branch, or `none`; `branches` are names, each followed by its commit.
fn restore(from: &mut impl Read, head: &str, branches: &[&str]) -> io::Result<ExitCode> {
    loop {
        match read_frame(from)? {
            (b'.', _) => break,
            (b'b', first) => unbundle(from, &first)?,
            _ => return Err(bad("the receiver said something unknown")),
        }
    }
    // A bundle has branches of its time: some moved since, some are gone.
    let there = output(&["for-each-ref", "--format=%(refname)", "refs/heads"])?;
    for name in String::from_utf8_lossy(&there).lines() {
        output(&["update-ref", "-d", "--end-of-options", name])?;
    }
    for branch in branches.chunks(2) {
        let [name, commit] = branch else { return Err(bad("a branch has no commit")) };
        output(&["update-ref", "--end-of-options", name, commit])?;
    }
    if head != "none" {
        let _ = quiet_output(&["symbolic-ref", "HEAD", head]);
    }
    Ok(ExitCode::SUCCESS)
}

/// git checks that what a bundle builds on is there.
fn unbundle(from: &mut impl Read, first: &[u8]) -> io::Result<()> {
    let mut child = git(&["bundle", "unbundle", "/dev/stdin"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let mut given = child.stdin.take().ok_or_else(|| bad("git has no input"))?;
    let give = (|| {
        given.write_all(first)?;
        loop {
            match read_frame(from)? {
                (b'b', piece) => given.write_all(&piece)?,
                (b'f', _) => return Ok(()),
                _ => return Err(bad("the receiver said something unknown")),
            }
        }
    })();
    drop(given);
    if give.is_err() {
        let _ = child.kill();
    }
    // What it writes, one line a ref, stays in the pipe until here.
    let out = child.wait_with_output()?;
    give?;
    if !out.status.success() {
        return Err(bad("git could not take a bundle"));
    }
    for line in String::from_utf8_lossy(&out.stdout).lines() {
        let (commit, name) = line.split_once(' ').ok_or_else(|| bad("git named no ref"))?;
        output(&["update-ref", "--end-of-options", name, commit])?;
    }
    Ok(())
}

// ---- git, frames, pkt-lines -----------------------------------------------------------------

fn git(args: &[&str]) -> Command {
    let mut command = Command::new("git");
    command.args(args).stdin(Stdio::null()).stderr(Stdio::inherit());
    command
}

fn output(args: &[&str]) -> io::Result<Vec<u8>> {
    let out = git(args).stdout(Stdio::piped()).output()?;
    if out.status.success() {
        return Ok(out.stdout);
    }
    say(&String::from_utf8_lossy(&out.stderr));
    Err(bad(&format!("git {} failed", args.first().unwrap_or(&""))))
}

fn quiet_output(args: &[&str]) -> Option<Vec<u8>> {
    let out = git(args).stderr(Stdio::null()).output().ok()?;
    out.status.success().then_some(out.stdout)
}

fn bad(text: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, text)
}

/// git carries the hook's standard error to the person who pushes.
fn say(line: &str) {
    let line = line.trim_end_matches('\n');
    if !line.is_empty() {
        let _ = io::stderr().write_all(format!("{line}\n").as_bytes());
    } else {
        let _ = io::stderr().write_all(b"\n");
    }
}

/// A path of the customer's, for a terminal.
fn printable(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    text.chars().take(200).map(|c| if c.is_control() { '?' } else { c }).collect()
}

fn frame(to: &mut impl Write, kind: u8, body: &[u8]) -> io::Result<()> {
    let length = u32::try_from(body.len()).map_err(|_| bad("too long"))?.to_be_bytes();
    let [a, b, c, d] = length;
    to.write_all(&[kind, a, b, c, d])?;
    to.write_all(body)
}

fn read_frame(from: &mut impl Read) -> io::Result<(u8, Vec<u8>)> {
    let mut head = [0; 5];
    from.read_exact(&mut head)?;
    let [kind, a, b, c, d] = head;
    let length = u32::from_be_bytes([a, b, c, d]) as usize;
    if length > FRAME_BYTES_MAX {
        return Err(bad("the receiver's answer is too long"));
    }
    let mut body = vec![0; length];
    from.read_exact(&mut body)?;
    Ok((kind, body))
}

/// Packets up to the next flush.
fn packets(from: &mut impl Read) -> io::Result<Vec<Vec<u8>>> {
    let mut all = Vec::new();
    loop {
        let mut head = [0; 4];
        from.read_exact(&mut head)?;
        let length = std::str::from_utf8(&head).ok().filter(|s| s.bytes().all(|b| b.is_ascii_hexdigit()));
        let length = length.and_then(|s| usize::from_str_radix(s, 16).ok()).ok_or_else(|| bad("not a pkt-line"))?;
        match length {
            0 => return Ok(all),
            4..=PACKET_BYTES_MAX if all.len() < REFS_MAX => {
                let mut body = vec![0; length - 4];
                from.read_exact(&mut body)?;
                all.push(body);
            }
            4..=PACKET_BYTES_MAX => return Err(bad("too many refs in one push")),
            _ => return Err(bad("not a pkt-line")),
        }
    }
}

fn packet(to: &mut impl Write, body: &[u8]) -> io::Result<()> {
    let body = body.get(..body.len().min(PACKET_BYTES_MAX - 4)).unwrap_or_default();
    write!(to, "{:04x}", body.len() + 4)?;
    to.write_all(body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_end_at_a_flush_and_nothing_hostile_is_taken() {
        let mut good: &[u8] = b"0007abc00040000rest";
        assert_eq!(packets(&mut good).ok(), Some(vec![b"abc".to_vec(), b"".to_vec()]));
        for bad in ["zzzz", "0001", "0003", "fff1", "ffff", "00", "0009ab", "+007abc", ""] {
            assert!(packets(&mut bad.as_bytes()).is_err(), "{bad}");
        }
        assert!(packets(&mut "0004".repeat(REFS_MAX + 1).as_bytes()).is_err());
    }

    #[test]
    fn a_frame_reads_as_it_was_written() {
        let mut bytes = Vec::new();
        frame(&mut bytes, b'l', b"hello").unwrap_or_default();
        assert_eq!(read_frame(&mut bytes.as_slice()).ok(), Some((b'l', b"hello".to_vec())));
        assert!(read_frame(&mut [b'l', 0xff, 0xff, 0xff, 0xff].as_slice()).is_err());
    }
}
