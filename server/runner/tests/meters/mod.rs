//! What an instance sends to the internet, counted by the kernel, whatever becomes of its runner.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::net::Ipv4Addr;
use std::process::{Child, Command, Stdio};

use domain::{Meter, Sample};

use super::*;

/// A peer on the internet: a network namespace behind a link of its own, and in it a program that says of each
/// connection how many bytes came.
struct Internet {
    address: Ipv4Addr,
    link: String,
    peer: Child,
}

const SINK: &str = "import socket, sys
listener = socket.socket()
listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
print('here', flush=True)
sys.stdin.readline()
listener.bind(('0.0.0.0', 9000))
listener.listen()
print('listens', flush=True)
while True:
    client, _ = listener.accept()
    got = 0
    while part := client.recv(1 << 16):
        got += len(part)
    client.sendall(b'%d' % got)
    client.close()
";

/// Sends `GET /send/N` bytes to the peer, and says what it said; answers `GET /say/N` with as many.
fn app(peer: Ipv4Addr) -> String {
    format!(
        "import http.server, os, socket
class App(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        _, what, n = self.path.split('/')
        answer = b'x' * int(n)
        if what == 'send':
            with socket.create_connection(('{peer}', 9000), 10) as peer:
                peer.sendall(answer)
                peer.shutdown(socket.SHUT_WR)
                answer = peer.recv(100)
        self.send_response(200)
        self.end_headers()
        self.wfile.write(answer)
http.server.ThreadingHTTPServer(('', int(os.environ['PORT'])), App).serve_forever()
"
    )
}

fn run(program: &str, args: &[&str]) {
    let output = Command::new(program).args(args).output().unwrap();
    assert!(output.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
}

impl Internet {
    fn new(slice: u32) -> Self {
        // Of a range for documentation, in which no server is; a route of one address is nobody's network.
        let last = u8::try_from(slice % 250).unwrap() + 1;
        let (address, gateway) = (Ipv4Addr::new(198, 51, 100, last), Ipv4Addr::new(203, 0, 113, last));
        let link = format!("inet{slice}");
        let mut peer = Command::new("unshare")
            .args(["--net", "--kill-child", "python3", "-c", SINK])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = BufReader::new(peer.stdout.take().unwrap()).lines();
        let pid = peer.id().to_string();
        let internet = Self { address, link: link.clone(), peer };
        assert_eq!(said.next().unwrap().unwrap(), "here");
        let (at, of) = (format!("{address}/32"), format!("{gateway}/32"));
        run("ip", &["link", "add", &link, "type", "veth", "peer", "name", "eth0", "netns", &pid]);
        run("ip", &["address", "add", &of, "dev", &link]);
        run("ip", &["link", "set", &link, "up"]);
        run("ip", &["route", "add", &at, "dev", &link]);
        let inside = |args: &[&str]| run("nsenter", &[&["--target", &pid, "--net", "ip"], args].concat());
        inside(&["address", "add", &at, "dev", "eth0"]);
        inside(&["link", "set", "eth0", "up"]);
        inside(&["route", "add", "default", "dev", "eth0"]);
        let mut internet = internet;
        writeln!(internet.peer.stdin.as_mut().unwrap()).unwrap();
        assert_eq!(said.next().unwrap().unwrap(), "listens");
        internet
    }
}

impl Drop for Internet {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["link", "delete", &self.link]).output();
        let _ = self.peer.kill();
        let _ = self.peer.wait();
    }
}

impl World {
    fn sent(&self, id: i64) -> u64 {
        self.sent_by_life(id).values().sum()
    }

    /// The greatest value of each life of an instance.
    fn sent_by_life(&self, id: i64) -> BTreeMap<String, u64> {
        let mut lives = BTreeMap::new();
        let reports = self.fake.reports.lock().unwrap();
        let readings = reports.iter().flat_map(|r| &r.readings).filter(|r| r.meter == Meter::BytesOut);
        for reading in readings.filter(|r| r.life.as_str().contains(&format!("/{id}/"))) {
            let highest = lives.entry(reading.life.to_string()).or_insert(0);
            *highest = reading.value.max(*highest);
        }
        lives
    }

    async fn send(&self, spec: &InstanceSpec, bytes: u64) {
        let address = spec.address;
        let said = tokio::task::spawn_blocking(move || ask(address, &format!("/send/{bytes}"))).await.unwrap().unwrap();
        assert!(said.ends_with(&format!("\r\n\r\n{bytes}")), "{said}");
    }

    fn counters(&self) -> String {
        let table = format!("berth-{}", self.ground.config.slice);
        let listed = Command::new("nft").args(["list", "counters", "table", "inet", &table]).output().unwrap();
        String::from_utf8(listed.stdout).unwrap()
    }

    fn samples(&self) -> Vec<Sample> {
        let reports = self.fake.reports.lock().unwrap();
        let all = reports.iter().flat_map(|r| &r.samples).map(|s| ((s.source.clone(), s.app, s.at), s.clone()));
        all.collect::<HashMap<_, _>>().into_values().collect()
    }
}

/// Heads of packets come on top of what was sent.
fn is_of(counted: u64, sent: u64) -> bool {
    counted >= sent && counted <= sent + sent / 10 + 5_000
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_leaves_for_the_internet_is_counted_whatever_becomes_of_the_runner() {
    let mut world = World::new().await;
    let slice = world.ground.config.slice;
    let internet = Internet::new(slice);
    let image = world.image(&[("app.py", &app(internet.address))]);
    let spec = world.spec(1, &image, "exec python3 app.py");
    world.fake.assign(vec![spec.clone()]);
    world.healthy(1).await;
    world.send(&spec, 1_000_000).await;
    // An answer to the balancer is not counted here; the balancer counts it.
    let said = get_path(spec.address, "/say/3000000").await;
    assert!(said.len() > 3_000_000);
    world.send(&spec, 500_000).await;
    until("it is counted", || world.sent(1) >= 1_500_000).await;
    assert!(is_of(world.sent(1), 1_500_000), "{}", world.sent(1));

    // No runner looks.
    world.kill_runner().await;
    world.send(&spec, 2_000_000).await;
    world.begin();
    until("what was sent meanwhile is counted", || world.sent(1) >= 3_500_000).await;
    assert!(is_of(world.sent(1), 3_500_000), "{}", world.sent(1));

    // Somebody removes what they do not know, and the runner is killed: the next one knows where it was.
    world.kill_runner().await;
    let before = world.sent(1);
    let table = format!("berth-{slice}");
    run("nft", &["flush", "map", "inet", &table, "sent"]);
    let counter = world.counters().split_whitespace().skip_while(|w| *w != "counter").nth(1).unwrap().to_owned();
    run("nft", &["delete", "counter", "inet", &table, &counter]);
    world.begin();
    until("it has a counter again", || world.counters().contains(&counter)).await;
    world.send(&spec, 1_000_000).await;
    until("it goes on", || world.sent(1) >= before + 1_000_000).await;
    run("nft", &["flush", "map", "inet", &table, "sent"]);
    run("nft", &["delete", "counter", "inet", &table, &counter]);
    until("under the same runner too", || world.counters().contains(&counter)).await;

    let work = |s: &Sample| s.work.unwrap();
    world.send(&spec, 5_000_000).await;
    let is_told = || world.samples().iter().any(|s| work(s).bytes_out >= 5_000_000 && work(s).cpu_micros > 0);
    until("its work is told, in a stretch", is_told).await;
    let samples = world.samples();
    assert!(samples.iter().all(|s| s.at.unix_micros() % 15_000_000 == 0 && s.traffic.is_none()));
    assert!(samples.iter().all(|s| work(s).memory_reserved_bytes == spec.limits.memory_bytes), "{samples:?}");
    assert!(samples.iter().all(|s| (1 << 20..=spec.limits.memory_bytes).contains(&work(s).memory_bytes)));
    assert!(samples.iter().map(|s| work(s).bytes_out).sum::<u64>() <= world.sent(1));

    // Its end: the last reading is the kernel's, is told, and only then nothing of it is left.
    world.send(&spec, 700_000).await;
    world.fake.assign(vec![InstanceSpec { wanted: Wanted::Stop, ..spec.clone() }]);
    until("it is stopped", || world.fake.state(1) == Some(InstanceState::Stopped)).await;
    let last = world.fake.last(1).unwrap().last.unwrap();
    until("its last reading is told", || world.sent(1) >= last.bytes_out).await;
    assert_eq!((world.sent(1), world.fake.cpu(1)), (last.bytes_out, last.cpu_micros));
    assert!(is_of(last.bytes_out, before + 6_700_000), "{last:?}, {before} before");
    assert!(!world.counters().contains(&counter));
    world.fake.assign(vec![]);
    world.gone(1).await;

    // The same instance, as after the end of the whole server: its counters begin anew, in another life.
    until("it is forgotten", || world.fake.last(1).is_none()).await;
    until("another second", || {
        let began: u64 = counter.split('g').nth(1).unwrap().parse().unwrap();
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs() > began
    })
    .await;
    world.fake.assign(vec![spec.clone()]);
    world.healthy(1).await;
    world.send(&spec, 100_000).await;
    until("it counts from zero", || world.sent_by_life(1).len() == 2).await;
    until("and all of it", || world.sent(1) >= last.bytes_out + 100_000).await;
    assert!(is_of(world.sent(1) - last.bytes_out, 100_000));
    world.end_runner().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_runner_may_be_killed_at_any_moment_of_an_end() {
    let mut world = World::new().await;
    let internet = Internet::new(world.ground.config.slice);
    let image = world.image(&[("app.py", &app(internet.address))]);
    for n in 1..=10 {
        let spec = world.spec(n, &image, "exec python3 app.py");
        world.fake.assign(vec![spec.clone()]);
        world.healthy(n).await;
        world.send(&spec, 1_000_000).await;
        world.fake.assign(vec![InstanceSpec { wanted: Wanted::Stop, ..spec }]);
        // Somewhere between the first signal and the last report: the moment is what is tried.
        tokio::time::sleep(Duration::from_millis(20 * u64::try_from(n - 1).unwrap())).await;
        world.kill_runner().await;
        world.begin();
        until("it is told that it ended", || world.fake.state(n) == Some(InstanceState::Stopped)).await;
        until("all that it sent is told", || world.sent(n) >= 1_000_000).await;
    }
    world.fake.assign(vec![]);
    world.gone(10).await;
    until("nothing is counted any more", || world.counters().is_empty() || !world.counters().contains("counter i"))
        .await;
    for n in 1..=10 {
        assert_eq!(world.sent_by_life(n).len(), 1, "{n}: {:?}", world.sent_by_life(n));
        assert!(is_of(world.sent(n), 1_000_000), "{n}: {}", world.sent(n));
    }
    world.end_runner().await;
}
