//! The sender against a real PostgreSQL and a peer that speaks SMTP, well or badly.

// A test that cannot be set up has failed; clippy's exception for tests does not see helpers.
#![allow(clippy::unwrap_used)]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use domain::{LinkKind, MailState, Secret};
use mail::{Config, Out, Patience};
use sha2::{Digest, Sha256};
use store::Db;
use store::mail::NewMail;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

/// How the peer takes one letter after another.
#[derive(Debug, Clone, Copy)]
enum Mood {
    Takes,
    /// 451, as a greylisting server says.
    NotNow,
    /// 550: nobody of that name.
    Never,
    /// Says nothing after the recipient.
    Hangs,
}

struct Peer {
    port: u16,
    /// What was taken, whole.
    got: Arc<Mutex<Vec<String>>>,
    _tasks: JoinSet<()>,
}

/// The last mood stays.
async fn peer(moods: &[Mood]) -> Peer {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let got = Arc::new(Mutex::new(Vec::new()));
    let (moods, kept, mut tasks) = (moods.to_vec(), got.clone(), JoinSet::new());
    tasks.spawn(async move {
        let mut each = JoinSet::new();
        for n in 0.. {
            let Ok((stream, _)) = listener.accept().await else { return };
            let mood = moods.get(n).or(moods.last()).copied().unwrap_or(Mood::Takes);
            let kept = kept.clone();
            each.spawn(async move { drop(speak(stream, mood, &kept).await) });
        }
    });
    Peer { port, got, _tasks: tasks }
}

async fn speak(stream: TcpStream, mood: Mood, got: &Mutex<Vec<String>>) -> std::io::Result<()> {
    let (reads, mut writes) = stream.into_split();
    let mut lines = BufReader::new(reads).lines();
    writes.write_all(b"220 peer\r\n").await?;
    while let Some(line) = lines.next_line().await? {
        let verb = line.split([' ', ':']).next().unwrap_or_default().to_ascii_uppercase();
        let answer: &[u8] = match (verb.as_str(), mood) {
            ("EHLO", _) => b"250-peer\r\n250 8BITMIME\r\n",
            ("RCPT", Mood::NotNow) => b"451 try again later\r\n",
            ("RCPT", Mood::Never) => b"550 no such user\r\n",
            ("RCPT", Mood::Hangs) => return std::future::pending().await,
            ("DATA", _) => {
                writes.write_all(b"354 go on\r\n").await?;
                let mut letter = String::new();
                while let Some(line) = lines.next_line().await?.filter(|line| line != ".") {
                    letter.push_str(&line);
                    letter.push('\n');
                }
                got.lock().unwrap().push(letter);
                b"250 taken\r\n"
            }
            ("QUIT", _) => return writes.write_all(b"221 bye\r\n").await,
            _ => b"250 yes\r\n",
        };
        writes.write_all(answer).await?;
    }
    Ok(())
}

struct Ground {
    postgres: harness::Postgres,
    web: Db,
    tasks: JoinSet<()>,
}

async fn ground() -> Ground {
    let postgres = harness::postgres().await.unwrap();
    let web = Db::open(&Secret::new(postgres.url_as("berth_web")), 2).unwrap();
    Ground { postgres, web, tasks: JoinSet::new() }
}

impl Ground {
    fn sends(&mut self, out: Out, give_up: Duration) {
        let config = Config {
            database_url: Secret::new(self.postgres.url_as("berth_control")),
            site: "https://berth.example".to_owned(),
            from: "Berth <berth@berth.example>".to_owned(),
            out,
            patience: Patience {
                try_timeout: Duration::from_millis(400),
                wait_min: Duration::from_millis(50),
                wait_max: Duration::from_millis(200),
                give_up,
            },
        };
        // Ends with the ground: it is aborted.
        self.tasks.spawn(async move { mail::run(config, CancellationToken::new()).await.unwrap() });
    }

    async fn write(&self, address: &str, link: Option<LinkKind>) {
        let mut tx = self.web.begin().await.unwrap();
        let user = match link {
            Some(_) => {
                let email = "ada@people.example".parse().unwrap();
                store::user::create(&mut tx, &email, "Ada", None, false, true).await.unwrap()
            }
            None => None,
        };
        let text = if link.is_some() { "Open {link}" } else { "Just so." };
        let mail = NewMail { user, address, kind: "test", subject: "Grüße", text, link };
        store::mail::write(&mut tx, mail).await.unwrap();
        tx.commit().await.unwrap();
    }

    /// Waits until a letter is in this state: the newest of them.
    async fn one_is(&self, state: MailState) -> store::mail::Mail {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let all = store::mail::list(self.web.pool(), None, None, 9).await.unwrap();
            if let Some(found) = all.iter().find(|mail| mail.state == state) {
                return found.clone();
            }
            assert!(Instant::now() < deadline, "{all:?}");
            sleep(Duration::from_millis(20)).await;
        }
    }
}

const DAYS: Duration = Duration::from_secs(3 * 24 * 3600);

fn smtp(peer: &Peer) -> Out {
    Out::Smtp(Secret::new(format!("smtp://127.0.0.1:{}", peer.port)))
}

#[tokio::test]
async fn a_letter_is_sent_with_a_link_of_its_own_and_then_forgotten() {
    let (mut ground, peer) = (ground().await, peer(&[Mood::Takes]).await);
    ground.sends(smtp(&peer), DAYS);
    ground.write("ada@example.com", Some(LinkKind::Reset)).await;
    let sent = ground.one_is(MailState::Sent).await;
    assert_eq!((sent.tries, sent.error), (1, None));
    let letter = peer.got.lock().unwrap().remove(0).replace("=\n", "");
    assert!(letter.contains("To: ada@example.com") && letter.contains("<berth@berth.example>"), "{letter}");
    let token = letter.split("https://berth.example/reset/").nth(1).unwrap().split_whitespace().next().unwrap();
    assert_eq!(token.len(), 43, "{letter}");
    let hash = Sha256::digest(token);
    assert!(store::user::mail_link_holds(ground.web.pool(), &hash, LinkKind::Reset).await.unwrap());
    assert!(!store::user::mail_link_holds(ground.web.pool(), &hash, LinkKind::Confirm).await.unwrap());
}

#[tokio::test]
async fn what_is_refused_for_now_is_tried_again_until_it_is_taken() {
    let (mut ground, peer) = (ground().await, peer(&[Mood::NotNow, Mood::Hangs, Mood::NotNow, Mood::Takes]).await);
    ground.sends(smtp(&peer), DAYS);
    ground.write("ada@example.com", None).await;
    let sent = ground.one_is(MailState::Sent).await;
    assert_eq!((sent.tries, peer.got.lock().unwrap().len()), (4, 1));
}

#[tokio::test]
async fn what_is_refused_for_good_is_shown_at_once_and_goes_when_it_is_tried_again() {
    let (mut ground, peer) = (ground().await, peer(&[Mood::Never, Mood::Takes]).await);
    ground.sends(smtp(&peer), DAYS);
    ground.write("nobody@example.com", None).await;
    let failed = ground.one_is(MailState::Failed).await;
    assert!(failed.tries == 1 && failed.error.as_deref().is_some_and(|why| why.contains("no such user")), "{failed:?}");
    let mut tx = ground.web.begin().await.unwrap();
    assert!(store::mail::again(&mut tx, failed.id).await.unwrap());
    tx.commit().await.unwrap();
    assert_eq!(ground.one_is(MailState::Sent).await.tries, 2);
}

#[tokio::test]
async fn a_letter_that_is_never_taken_is_given_up_in_the_end_and_holds_up_no_other() {
    let (mut ground, peer) = (ground().await, peer(&[Mood::Hangs, Mood::Takes, Mood::Hangs]).await);
    ground.sends(smtp(&peer), Duration::from_secs(2));
    ground.write("ada@example.com", None).await;
    ground.write("bob@example.com", None).await;
    assert_eq!(ground.one_is(MailState::Sent).await.address, "bob@example.com", "the other one waits meanwhile");
    let failed = ground.one_is(MailState::Failed).await;
    assert!(failed.address == "ada@example.com" && failed.tries > 1, "{failed:?}");
    assert_eq!(store::mail::counts(ground.web.pool()).await.unwrap().failed, 1);
}

#[tokio::test]
async fn nothing_is_said_to_a_server_that_cannot_go_over_to_tls() {
    let (mut ground, peer) = (ground().await, peer(&[Mood::Takes]).await);
    let url = format!("smtp://ada:secret@127.0.0.1:{}?tls=required", peer.port);
    ground.sends(Out::Smtp(Secret::new(url)), Duration::ZERO);
    ground.write("ada@example.com", None).await;
    let failed = ground.one_is(MailState::Failed).await;
    assert!(failed.error.as_deref().is_some_and(|why| why.to_lowercase().contains("tls")), "{failed:?}");
    assert!(peer.got.lock().unwrap().is_empty());
}

#[tokio::test]
async fn without_a_mail_server_each_letter_is_a_file_of_its_writer_alone() {
    use std::os::unix::fs::PermissionsExt;
    let mut ground = ground().await;
    let dir = tempfile::tempdir().unwrap();
    ground.sends(Out::Folder(dir.path().to_owned()), DAYS);
    ground.write("ada@example.com", Some(LinkKind::Confirm)).await;
    ground.one_is(MailState::Sent).await;
    let files: Vec<_> = std::fs::read_dir(dir.path()).unwrap().map(|file| file.unwrap().path()).collect();
    assert!(files.len() == 1 && files[0].to_string_lossy().ends_with("-test.eml"), "{files:?}");
    assert_eq!(std::fs::metadata(&files[0]).unwrap().permissions().mode() & 0o777, 0o600);
    let text = std::fs::read_to_string(&files[0]).unwrap().replace("=\r\n", "");
    assert!(text.contains("https://berth.example/confirm/"), "{text}");
}
