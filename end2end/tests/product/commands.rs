//! The commands by SSH, with the real OpenSSH client, dropbear's and a real bash.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use anyhow::{Context, Result, ensure};
use harness::{Json, Person, Visitor, wait};

use crate::given::{Given, SOON, given};

const SAYS: &str = "import http.server, os\n\
    class H(http.server.BaseHTTPRequestHandler):\n\
    \x20   def do_GET(self):\n\
    \x20       self.send_response(200); self.end_headers()\n\
    \x20       self.wfile.write(('motto: ' + os.environ.get('MOTTO', 'none')).encode())\n\
    \x20       print('\\x1b[32mgreen\\x1b[0m\\x1b[2J asked for', self.path, flush=True)\n\
    \x20   def log_message(self, *what): pass\n\
    print('web is up', flush=True)\n\
    http.server.ThreadingHTTPServer(('0.0.0.0', int(os.environ['PORT'])), H).serve_forever()\n";

pub struct Said {
    pub code: i32,
    pub out: String,
    pub err: String,
}

fn ask_with(person: &Person, options: &[&str], words: &[&str], input: &str) -> Result<Said> {
    let mut ssh = person.ssh(options, words);
    ssh.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = ssh.spawn()?;
    child.stdin.take().context("no stdin")?.write_all(input.as_bytes())?;
    let done = child.wait_with_output()?;
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).context("it printed what is not UTF-8");
    Ok(Said { code: done.status.code().unwrap_or(-1), out: text(done.stdout)?, err: text(done.stderr)? })
}

pub fn ask(person: &Person, words: &[&str]) -> Result<Said> {
    ask_with(person, &[], words, "")
}

/// What must go well; what it says.
pub fn well(person: &Person, words: &[&str]) -> Result<String> {
    let said = ask(person, words)?;
    ensure!(said.code == 0, "`{}` ended with {}: {}{}", words.join(" "), said.code, said.out, said.err);
    Ok(said.out)
}

/// What must end with this code, nothing on standard output, and these words.
pub fn refused(person: &Person, words: &[&str], code: i32, says: &str) -> Result<()> {
    let said = ask(person, words)?;
    let asked = words.join(" ");
    ensure!(said.code == code && said.out.is_empty(), "`{asked}` ended with {}: {}{}", said.code, said.out, said.err);
    ensure!(said.err.contains(says), "`{asked}` does not say `{says}`: {}", said.err);
    Ok(())
}

/// A command that goes on until it is ended.
pub struct Going {
    child: Child,
    heard: Arc<Mutex<Vec<u8>>>,
}

impl Going {
    pub fn begin(mut ssh: Command) -> Result<Self> {
        let mut child = ssh.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let mut out = child.stdout.take().context("no stdout")?;
        let heard = Arc::new(Mutex::new(Vec::new()));
        let to = Arc::clone(&heard);
        std::thread::spawn(move || {
            let mut piece = [0; 4096];
            while let Ok(n @ 1..) = out.read(&mut piece) {
                to.lock().unwrap().extend_from_slice(&piece[..n]);
            }
        });
        Ok(Self { child, heard })
    }

    pub fn heard(&self) -> String {
        String::from_utf8_lossy(&self.heard.lock().unwrap()).into_owned()
    }

    fn says(&self, words: &str) -> Result<()> {
        wait(SOON, || {
            let heard = self.heard();
            ensure!(heard.contains(words), "no `{words}` in {heard:?}");
            Ok(())
        })
    }
}

impl Going {
    /// Its exit code.
    fn ends(&mut self) -> Result<Option<i32>> {
        let mut ended = None;
        wait(SOON, || {
            ended = self.child.try_wait()?;
            ensure!(ended.is_some(), "it does not end");
            Ok(())
        })?;
        Ok(ended.and_then(|status| status.code()))
    }
}

impl Drop for Going {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn every_verb_of_the_pages_works_by_ssh() {
    given("commands", |g| {
        let ada = g.person.clone();
        let greeting = well(&ada, &[])?;
        ensure!(greeting.starts_with("Hello ada!") && greeting.contains("You have no apps yet"), "{greeting}");
        let made = well(&ada, &["create", "motto"])?;
        ensure!(made.contains("git remote add berth ssh://berth@localhost:"), "{made}");
        refused(&ada, &["create", "motto"], 1, "The name 'motto' is taken.")?;
        refused(&ada, &["create", "Motto!"], 2, "berth: ")?;
        refused(&ada, &["restart", "motto"], 1, "Nothing serves yet.")?;
        push(g)?;
        looked_at(g, &ada)?;
        tailed(g, &ada)?;
        changed(g, &ada)?;
        people(g, &ada)?;
        completed(g, &ada)?;
        strangers(g, &ada)?;

        refused(&ada, &["delete", "motto"], 2, "delete motto --confirm motto")?;
        refused(&ada, &["delete", "motto", "--confirm", "moto"], 2, "That is not its name.")?;
        well(&ada, &["delete", "motto", "--confirm", "motto"])?;
        refused(&ada, &["info", "motto"], 4, "There is no app 'motto'.")
    });
}

fn push(g: &Given) -> Result<()> {
    let folder = g.berth.home().join("motto.files");
    fs::create_dir(&folder)?;
    let worker = "worker: while true; do echo tick; sleep 1; done\n";
    let procfile = format!("web: exec python3 app.py\n{worker}");
    for (file, text) in [("app.py", SAYS), ("requirements.txt", ""), ("Procfile", procfile.as_str())] {
        fs::write(folder.join(file), text)?;
    }
    g.person.prepare("motto", &folder)?;
    g.push_well("motto").map(drop)
}

/// What only shows, as text and as JSON.
fn looked_at(g: &Given, ada: &Person) -> Result<()> {
    ensure!(well(ada, &["apps", "-q"])? == "motto\n", "not the names only");
    ensure!(well(ada, &["open", "motto"])?.trim() == g.berth.app("motto"), "not its URL");
    for (words, says) in [
        (&["apps"][..], "motto  v1       http://motto.localhost:"),
        (&["info", "motto"], "processes  web 1 × 512MiB, worker 1 × 512MiB\n"),
        (&["ps", "motto"], "web.1     healthy  v1       512MiB  2"),
        (&["releases", "motto"], "v1       serves  push   2"),
        (&["logs", "motto", "--deploy", "1"], "-----> Making the image"),
        (&["activity", "motto"], "push motto: "),
        (&["whoami"], "user      ada <ada@localhost>\n"),
        (&["help", "logs"], "usage: logs APP [-t]"),
    ] {
        let said = well(ada, words)?;
        ensure!(said.contains(says), "`{}` does not say `{says}`:\n{said}", words.join(" "));
        ensure!(!said.contains(['\t', '\r', '\x1b']), "no plain text: {said:?}");
    }
    for (words, at) in [
        (&["apps", "--json"][..], "url"),
        (&["ps", "motto", "--json"], "state"),
        (&["releases", "motto", "--json"], "commit"),
        (&["keys", "--json"], "fingerprint"),
        (&["activity", "--json"], "verb"),
    ] {
        let json = Json::parse(&well(ada, words)?)?;
        let first = json.list().first().context("an empty list")?;
        ensure!(!first.at(at).text().is_empty(), "`{}` has no `{at}`", words.join(" "));
    }
    ensure!(Json::parse(&well(ada, &["info", "motto", "--json"])?)?.at("health").text() == "running", "not running");
    ensure!(Json::parse(&well(ada, &["whoami", "--json"])?)?.at("email").text() == "ada@localhost", "somebody else");

    refused(ada, &["lgos", "motto"], 2, "There is no `lgos`. Did you mean `logs`?")?;
    refused(ada, &["run", "motto", "bash"], 2, "There is no `run`.")?;
    refused(ada, &["info", "moto"], 4, "There is no app 'moto'.\n  hint: Did you mean `motto`?")?;
    refused(ada, &["info"], 2, "usage: info APP [--json]\nexample: ssh -p ")?;
    refused(ada, &["logs", "motto", "-n", "many"], 2, "-n is a number")?;
    refused(
        ada,
        &["info", "moto", "--json"],
        4,
        "{\"error\":{\"kind\":\"not_found\",\"message\":\"There is no app 'moto'.\"",
    )?;

    let key = ada.home().join("key.dropbear");
    harness::read(Command::new("dropbearconvert").args(["openssh", "dropbear"]).arg(ada.home().join("key")).arg(&key))?;
    let mut dropbear = Command::new("dbclient");
    dropbear.args(["-y", "-y", "-p", &ada.ssh_port().to_string(), "-i"]).arg(key).args([
        "berth@localhost",
        "apps",
        "-q",
    ]);
    ensure!(harness::read(dropbear.env("HOME", ada.home()))? == "motto\n", "dropbear's client hears something else");
    Ok(())
}

/// Lines as they come, of two channels on one connection, and to a terminal.
fn tailed(g: &Given, ada: &Person) -> Result<()> {
    let control = format!("ControlPath={}", ada.home().join("control").display());
    let tail = Going::begin(ada.ssh(&["-M", "-o", &control], &["logs", "motto", "-t", "--source", "web"]))?;
    tail.says("web.1    web is up\n")?;
    g.visitor("motto").get("/from-one")?;
    // Whoever it is from, it moves no terminal; and a pipe gets no colours.
    tail.says("web.1    green\\x1b[2J asked for /from-one\n")?;
    let second = ask_with(ada, &["-o", &control], &["ps", "motto"], "")?;
    ensure!(second.code == 0 && second.out.contains("worker.1"), "a second channel: {}{}", second.out, second.err);
    g.visitor("motto").get("/from-two")?;
    tail.says("asked for /from-two\n")?;
    ensure!(!String::from_utf8_lossy(&tail.heard.lock().unwrap()).contains("tick"), "another source is shown");
    let found = well(ada, &["logs", "motto", "--text", "from-one"])?;
    ensure!(found.lines().count() == 1 && found.contains("asked for /from-one"), "{found}");
    drop(tail);

    let mut terminal = Going::begin(ada.ssh(&["-tt"], &["logs", "motto", "-t", "-n", "0"]))?;
    // It follows.
    terminal.says("worker.1 tick\r\n")?;
    g.visitor("motto").get("/at-a-terminal")?;
    terminal.says("\x1b[32mgreen\x1b[0m\\x1b[2J asked for /at-a-terminal\x1b[0m\r\n")?;
    terminal.child.stdin.as_mut().context("no stdin")?.write_all(b"\x03")?;
    ensure!(terminal.ends()? == Some(130), "Ctrl-C does not end it as it should");

    // A tail has no end of its own: it does not hold up a receiver that a newer one replaces.
    let mut old = Going::begin(ada.ssh(&[], &["logs", "motto", "-t", "-n", "0"]))?;
    old.says("worker.1 tick\n")?;
    let (renewed, told) = g.berth.command(&["restart", "receiver"])?;
    ensure!(renewed, "{told}");
    ensure!(old.ends()? == Some(3), "a tail of the old receiver ended otherwise");
    Ok(())
}

/// What changes something: each is followed like a push, and is an event by this door.
fn changed(g: &mut Given, ada: &Person) -> Result<()> {
    const SECRET: &str = "xyzzy plugh";
    let set = ask_with(ada, &[], &["config", "set", "motto", "MOTTO=-"], &format!("{SECRET}\n"))?;
    ensure!(set.code == 0 && set.out.contains("Deploy 2 live in"), "{}{}", set.out, set.err);
    ensure!(g.visitor("motto").get("/")?.body == format!("motto: {SECRET}"), "once it is told, it serves");
    let shown = well(ada, &["config", "motto"])?;
    ensure!(shown.contains("MOTTO  11     ") && shown.contains("(secret)") && !shown.contains("xyzzy"), "{shown}");
    refused(ada, &["config", "set", "motto", "A=b c"], 2, "`c` is no KEY=VALUE.")?;
    well(ada, &["config", "set", "motto", "'A=b  c'", "--plain", "--detach"])?;
    let config = Json::parse(&well(ada, &["config", "motto", "--json"])?)?;
    let first = config.at("vars").list().first().context("no vars")?;
    ensure!(first.at("value").text() == "b  c", "quoted once more, the value comes whole");
    ensure!(!g.berth.last_words().contains("xyzzy"), "a log has the value");
    // Followed to its end: it waits for the one before.
    let unset = well(ada, &["config", "unset", "motto", "A"])?;
    ensure!(unset.contains(" live in "), "{unset}");
    refused(ada, &["config", "unset", "motto", "NONE"], 4, "There is no such variable.")?;

    let back = well(ada, &["rollback", "motto", "v1"])?;
    ensure!(back.contains(" live in ") && g.visitor("motto").get("/")?.body == "motto: none", "{back}");
    refused(ada, &["rollback", "motto", "99"], 4, "There is no such deploy.")?;
    refused(ada, &["rollback", "motto", "first"], 2, "`first` is no release.")?;
    let json = ask(ada, &["restart", "motto", "--json"])?;
    ensure!(json.code == 0 && Json::parse(&json.out)?.at("state").text() == "live", "{}{}", json.out, json.err);
    ensure!(json.err.contains("-----> Starting"), "its lines stand aside: {}", json.err);

    let scaled = well(ada, &["scale", "motto", "web=2", "worker=0"])?;
    ensure!(scaled.contains("web      2      512MiB\nworker   0      512MiB\n"), "{scaled}");
    ensure!(well(ada, &["scale", "motto", "web:256MiB"])?.contains(" live in "), "another size is a deploy");
    refused(ada, &["scale", "motto", "web:3GiB"], 2, "Choose one of")?;
    refused(ada, &["scale", "motto", "cron=1"], 2, "runs no 'cron'")?;
    well(ada, &["stop", "motto"])?;
    refused(ada, &["restart", "motto"], 1, "The app is stopped.")?;
    ensure!(g.visitor("motto").get("/")?.status != 200, "it still answers");
    well(ada, &["start", "motto"])?;
    g.answers("motto", "motto: none")?;

    wait(SOON, || {
        let usage = well(ada, &["usage", "motto"])?;
        ensure!(usage.contains("\nrequests    ") && usage.contains(" of 2xx, 0 of 3xx"), "{usage}");
        let json = Json::parse(&well(ada, &["usage", "motto", "--json", "--range", "1d"])?)?;
        ensure!(json.at("points").list().len() == 97, "not a day");
        Ok(())
    })?;

    let cost = well(ada, &["cost", "motto"])?;
    ensure!(cost.contains("\nso far ") && cost.contains("\na day "), "{cost}");
    let bill = well(ada, &["cost"])?;
    ensure!(bill.contains("APP    COST\nmotto  "), "{bill}");
    let bill = Json::parse(&well(ada, &["cost", "--json"])?)?;
    ensure!(bill.at("apps").list()[0].at("app").text() == "motto", "not in the bill");
    ensure!(!g.berth.last_words().contains("costs are not known"), "the receiver may not read what costs are made of");

    // What was refused is told, and no deploy is followed.
    let open = well(ada, &["restart", "motto", "--detach"])?;
    ensure!(open.contains("is on its way"), "{open}");
    let said = ask(ada, &["retry", "motto", "v1"])?;
    ensure!(said.code == 1 && said.err.contains("v1 did not fail."), "{}{}", said.out, said.err);
    let done = g.berth.sql(
        "select count(*) from event where door = 'ssh' and verb in ('app create', 'config set', 'config unset', \
         'deploy roll back', 'app restart', 'app scale', 'app stop', 'app start') group by verb",
    )?;
    ensure!(done.lines().count() == 8, "not every command is an event:\n{done}");
    Ok(())
}

fn people(g: &Given, ada: &Person) -> Result<()> {
    harness::read(
        Command::new("ssh-keygen")
            .args(["-q", "-t", "ed25519", "-N", "", "-C", "spare one", "-f"])
            .arg(ada.home().join("two")),
    )?;
    let public = fs::read_to_string(ada.home().join("two.pub"))?;
    let added = ask_with(ada, &[], &["keys", "add"], &public)?;
    ensure!(added.code == 0 && added.out.contains("spare one (SHA256:"), "{}{}", added.out, added.err);
    let known = ask_with(ada, &[], &["keys", "add", "again"], &public)?;
    ensure!(known.code == 1 && known.err.contains("known to Berth already"), "{}", known.err);
    let private = ask_with(ada, &[], &["keys", "add"], &fs::read_to_string(ada.home().join("two"))?)?;
    ensure!(private.code == 2 && private.err.contains("private half"), "{}", private.err);
    let two = ada.home().join("two").display().to_string();
    let by_two = ask_with(ada, &["-o", &format!("IdentityFile={two}")], &["whoami"], "")?;
    ensure!(by_two.code == 0, "the second key: {}", by_two.err);
    well(ada, &["keys", "remove", "'spare one'"])?;
    ensure!(well(ada, &["keys"])?.lines().count() == 2, "one is left, below the head");
    refused(ada, &["keys", "remove", "nothing"], 4, "You have no key 'nothing'.")?;
    ensure!(g.berth.sql("select count(*) from ssh_key where name = 'spare one'")? == "0", "the key is still there");
    Ok(())
}

/// In a real bash: the function quotes, Tab knows verbs, options and apps.
fn completed(g: &Given, ada: &Person) -> Result<()> {
    let script = g.berth.home().join("completion.bash");
    fs::write(&script, well(ada, &["help", "completion", "bash"])?)?;
    // A person's own ssh knows their key.
    let bin = g.berth.home().join("bin");
    fs::create_dir(&bin)?;
    let mut wrapper = String::from("#!/bin/sh\nexec");
    let ssh = ada.ssh(&[], &[]);
    let own = std::iter::once(ssh.get_program()).chain(ssh.get_args()).map(|word| word.to_string_lossy().into_owned());
    for word in own.take_while(|word| word != "-p") {
        wrapper.push_str(&format!(" '{}'", if word == "ssh" { "/usr/bin/ssh" } else { &word }));
    }
    wrapper.push_str(" \"$@\"\n");
    fs::write(bin.join("ssh"), wrapper)?;
    fs::set_permissions(bin.join("ssh"), fs::Permissions::from_mode(0o755))?;
    let typed = r#"
        . "$1"
        try() { COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMPREPLY=(); _berth; echo "$* => ${COMPREPLY[*]}"; }
        complete -p berth
        try berth rel; try berth logs mo; try berth config ''; try berth config set m; try berth logs motto --ta
        berth config set motto "Q=it's  two" --plain --detach >/dev/null && berth config motto | grep '^Q '
    "#;
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap_or_default());
    let said = harness::read(Command::new("bash").args(["-c", typed, "bash"]).arg(&script).env("PATH", path))?;
    for says in [
        "complete -F _berth berth\n",
        "berth rel => releases\n",
        "berth logs mo => motto\n",
        "berth config  => motto set unset\n",
        "berth config set m => motto\n",
        "berth logs motto --ta => --tail\n",
        "ada  it's  two\n",
    ] {
        ensure!(said.contains(says), "completion does not say `{says}`:\n{said}");
    }
    Ok(())
}

/// Another customer finds nothing of it, whatever they ask, in the words for what is not there.
fn strangers(g: &Given, ada: &Person) -> Result<()> {
    let mut site = Visitor::new(&g.berth.site, g.berth.http);
    let bob = Person::new(&g.berth, "bob")?;
    bob.sign_in(&mut site)?;
    bob.add_key(&mut site)?;
    let before = g.berth.sql("select count(*) from event")?;
    for words in [
        "info",
        "open",
        "ps",
        "logs",
        "logs -t",
        "logs --deploy 1",
        "scale",
        "scale web=0",
        "config",
        "config set K=V",
        "config set K=-",
        "config unset MOTTO",
        "releases",
        "rollback",
        "rollback v1",
        "restart",
        "cancel v1",
        "retry v1",
        "stop",
        "start",
        "delete",
        "delete --confirm motto",
        "usage",
        "cost",
        "activity",
    ] {
        let mut asked: Vec<&str> = words.split(' ').collect();
        let at = if asked[0] == "config" && asked.len() > 1 { 2 } else { 1 };
        asked.insert(at, "motto");
        refused(&bob, &asked, 4, "berth: There is no app 'motto'.\n  hint: You have no apps yet.")?;
        asked[at] = "nosuch";
        refused(&bob, &asked, 4, "berth: There is no app 'nosuch'.\n  hint: You have no apps yet.")?;
    }
    refused(&bob, &["create", "motto"], 1, "The name 'motto' is taken.")?;
    ensure!(well(&bob, &["apps", "--json"])? == "[]\n", "bob sees apps");
    let fingerprint = Json::parse(&well(ada, &["keys", "--json"])?)?.list()[0].at("fingerprint").text().to_owned();
    refused(&bob, &["keys", "remove", &fingerprint], 4, "You have no key")?;
    ensure!(g.berth.sql("select count(*) from event")? == before, "a refused command left an event");
    Ok(())
}
