//! No request lost: what waits, what is tried again, what is counted.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::peers::{App, Client, eventually, hello, read_head};
use crate::rig::Rig;
use crate::{GET, Instant};

const POST: &str = "POST / HTTP/1.1\r\nHost: shop.localhost\r\nContent-Length: 2\r\n\r\nhi";

/// Clients that ask one request after the other until they are told to stop: the statuses they got.
struct Load {
    stop: Arc<AtomicBool>,
    clients: Vec<JoinHandle<Vec<u16>>>,
}

impl Load {
    fn begin(address: SocketAddr, clients: usize, request: &'static str) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let one = |_| {
            let stop = Arc::clone(&stop);
            std::thread::spawn(move || {
                let (mut client, mut got) = (Client::to(address), Vec::new());
                while !stop.load(SeqCst) {
                    let answer = client.ask(request);
                    got.push(answer.status);
                    if answer.head.contains("Connection: close") {
                        client = Client::to(address);
                    }
                }
                got
            })
        };
        Self { clients: (0..clients).map(one).collect(), stop }
    }

    fn end(self) -> Vec<u16> {
        self.stop.store(true, SeqCst);
        self.clients.into_iter().flat_map(|client| client.join().unwrap()).collect()
    }
}

fn bad(got: &[u16]) -> usize {
    got.iter().filter(|status| **status != 200).count()
}

#[test]
fn a_request_waits_for_an_instance_that_starts_but_not_for_ever_and_not_in_a_crowd() {
    let mut rig = Rig::with_config("shop", &[], |config| {
        config.limits.held_each_max = 2;
        config.timeouts.hold_ms = 1_500;
    });
    let begun = Instant::now();
    assert_eq!(rig.client().ask(GET).status, 503, "nothing is on its way");
    assert!(begun.elapsed() < Duration::from_millis(1_000));
    rig.foretell("shop", true, &[]);
    rig.publish();
    let mut waiting = [rig.client(), rig.client()];
    waiting.iter_mut().for_each(|client| client.send(POST));
    rig.counted("shop", 3);
    assert_eq!(rig.client().ask(GET).status, 503, "as many wait as may");
    let app = App::start(|_| hello());
    rig.set("shop", &[&app]);
    rig.foretell("shop", false, &[]);
    rig.publish();
    for mut client in waiting {
        assert_eq!(client.answer().status, 200);
    }
    assert_eq!((app.requests(), rig.failed("shop")), (2, 2));
    // Who leaves makes room.
    rig.set("shop", &[]);
    rig.foretell("shop", true, &[]);
    rig.publish();
    let leaving = [rig.client(), rig.client()].map(|mut client| {
        client.send(GET);
        client
    });
    rig.counted("shop", 6);
    drop(leaving);
    let begun = Instant::now();
    eventually("room to wait", || {
        let begun = Instant::now();
        rig.client().ask(GET).status == 503 && begun.elapsed() >= Duration::from_millis(1_400)
    });
    assert!(begun.elapsed() < Duration::from_secs(10));
}

#[test]
fn the_only_instance_crashes_and_no_request_that_may_be_repeated_is_lost() {
    let slow = || {
        App::start(|_| {
            std::thread::sleep(Duration::from_millis(5));
            hello()
        })
    };
    let app = slow();
    let mut rig = Rig::with("shop", &[&app]);
    let load = Load::begin(rig.address, 8, GET);
    eventually("some traffic", || app.requests() > 200);
    app.kill();
    // What its runner and the coordinator say, a little later.
    rig.set("shop", &[]);
    rig.foretell("shop", true, &[]);
    rig.publish();
    let again = slow();
    rig.set("shop", &[&again]);
    rig.foretell("shop", false, &[]);
    rig.publish();
    eventually("traffic again", || again.requests() > 200);
    let got = load.end();
    assert_eq!(bad(&got), 0, "of {}", got.len());
    assert_eq!((rig.failed("shop"), rig.errors("shop")), (0, 0));
}

#[test]
fn of_two_one_is_killed_and_only_what_it_had_read_and_must_not_be_repeated_is_lost() {
    for (request, lost_max) in [(GET, 0), (POST, 16)] {
        let slow = || {
            App::start(|_| {
                std::thread::sleep(Duration::from_millis(20));
                hello()
            })
        };
        let (app, other) = (slow(), slow());
        let rig = Rig::with("shop", &[&app, &other]);
        let load = Load::begin(rig.address, 16, request);
        eventually("some traffic", || app.requests() > 100);
        let before = other.requests();
        app.kill();
        eventually("traffic on the other", || other.requests() > before + 200);
        let got = load.end();
        assert!(bad(&got) <= lost_max, "{} of {} {request}", bad(&got), got.len());
        assert_eq!(rig.failed("shop"), bad(&got) as u64);
        assert!(got.iter().all(|status| [200, 502].contains(status)));
    }
}

#[test]
fn an_app_that_closes_each_connection_without_a_word_loses_no_post() {
    let served = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&served);
    let app = App::raw(move |mut io| {
        if read_head(&mut io).is_some() {
            count.fetch_add(1, SeqCst);
            io.write_all(hello().as_bytes())?;
        }
        Ok(())
    });
    let rig = Rig::with("shop", &[&app]);
    let load = Load::begin(rig.address, 8, POST);
    eventually("many requests", || served.load(SeqCst) > 3_000);
    let got = load.end();
    assert_eq!(bad(&got), 0, "of {}", got.len());
    assert_eq!(served.load(SeqCst), got.len() as u64, "none was served twice");
}

#[test]
fn what_a_client_does_wrong_is_never_the_apps_fault() {
    let app = App::raw(|mut io| {
        read_head(&mut io);
        io.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 60000000\r\n\r\n")?;
        let part = [b'x'; 60_000];
        (0..1000).try_for_each(|_| io.write_all(&part))?;
        io.read_exact(&mut [0; 1])
    });
    let rig = Rig::with_config("shop", &[&app], |config| config.timeouts.stall_ms = 300);
    // It reads nothing of its answer.
    let mut lazy = rig.client();
    lazy.send(GET);
    // Its body turns out malformed when its answer has begun.
    let mut odd = rig.client();
    odd.send("POST / HTTP/1.1\r\nHost: shop.localhost\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n");
    assert!(odd.head().contains("200 OK"));
    odd.send("nonsense\r\n");
    // It leaves in the middle.
    let mut gone = rig.client();
    gone.send(GET);
    gone.head();
    drop(gone);
    eventually("all of them to be given up", || app.connections() == 3 && app.open() == 0);
    assert_eq!((rig.failed("shop"), rig.errors("shop")), (0, 0));
}

#[test]
fn what_fails_while_a_deploy_is_under_way_is_counted_for_it() {
    let app = App::start(|head| match head.contains("/bad") {
        true => "HTTP/1.1 500 Oh\r\nContent-Length: 0\r\n\r\n".to_owned(),
        false => hello(),
    });
    let mut rig = Rig::apart("shop", &[&app]);
    const BAD: &str = "GET /bad HTTP/1.1\r\nHost: shop.localhost\r\n\r\n";
    let ask = |rig: &Rig, request: &str| rig.client().ask(request).status;
    assert_eq!([ask(&rig, GET), ask(&rig, BAD)], [200, 500]);
    assert!(rig.switches().is_empty());
    rig.foretell("shop", false, &[7]);
    rig.publish();
    assert_eq!([ask(&rig, GET), ask(&rig, BAD), ask(&rig, GET)], [200, 500, 200]);
    let since = |rig: &Rig, deploy: i64| {
        let all = rig.switches();
        let of = all.into_iter().find(|s| s.deploy.0 == deploy);
        of.map(|s| (s.to.requests - s.from.requests, s.to.unanswered - s.from.unanswered, s.to.errors - s.from.errors))
    };
    eventually("three to be counted", || since(&rig, 7) == Some((3, 0, 1)));
    let first = rig.switches()[0].clone();
    // What was under way when a deploy began is one of those that it counts.
    let stays = App::raw(|mut io| {
        read_head(&mut io);
        io.read_exact(&mut [0; 1])
    });
    rig.set("shop", &[&stays]);
    rig.publish();
    let mut open = rig.client();
    open.send("POST / HTTP/1.1\r\nHost: shop.localhost\r\nContent-Length: 3\r\n\r\nab");
    eventually("it to be there", || stays.open() == 1);
    rig.foretell("shop", false, &[7, 9]);
    rig.publish();
    stays.kill();
    assert_eq!(open.answer().status, 502);
    eventually("it to be counted", || since(&rig, 7) == Some((4, 1, 1)) && since(&rig, 9) == Some((1, 1, 0)));
    // The next deploy begins while this one drains.
    rig.foretell("shop", false, &[7, 8]);
    rig.set("shop", &[]);
    rig.publish();
    assert_eq!(ask(&rig, GET), 503);
    eventually("one more to be counted", || since(&rig, 7) == Some((5, 2, 1)) && since(&rig, 8) == Some((1, 1, 0)));
    // Killed, it counts on in the same life; what it says of the beginning is later, never earlier.
    rig.kill_and_start_again();
    assert_eq!(ask(&rig, GET), 503);
    eventually("the count to go on", || {
        let all = rig.switches();
        let of = all.iter().find(|s| s.deploy.0 == 7);
        of.is_some_and(|s| s.life == first.life && s.to.requests - first.from.requests == 6)
    });
    rig.foretell("shop", false, &[]);
    rig.publish();
    eventually("nothing to be counted", || rig.switches().is_empty());
}

#[test]
fn a_tunnel_goes_on_when_its_instance_left_and_counts_as_open_until_the_instance_ends_it() {
    let app = App::raw(|mut io| {
        read_head(&mut io);
        io.write_all(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")?;
        let mut byte = [0; 1];
        while io.read(&mut byte)? == 1 {
            io.write_all(&byte)?;
        }
        Ok(())
    });
    let idle = App::start(|_| hello());
    let mut rig = Rig::with("shop", &[&app]);
    let left = rig.instances("shop")[0];
    let mut client = rig.client();
    client.send("GET / HTTP/1.1\r\nHost: shop.localhost\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n");
    assert!(client.head().contains("101"));
    rig.set("shop", &[&idle]);
    rig.publish();
    eventually("the tunnel to be reported", || rig.open() == [(left, 1)]);
    client.send("x");
    assert_eq!(client.exactly(1), "x");
    // A connection that is kept is closed at once when its instance leaves.
    assert_eq!(rig.client().ask(GET).status, 200);
    assert_eq!(idle.open(), 1);
    rig.set("shop", &[]);
    rig.publish();
    eventually("the idle connection to be closed", || idle.open() == 0);
    app.kill();
    assert!(client.is_closed());
    drop(client);
    eventually("nothing to be open", || rig.open().is_empty());
}
