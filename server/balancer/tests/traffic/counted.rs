//! What is counted: for money to the last request, for graphs each answer once.

use std::time::Duration;

use domain::wire::RouteState;
use domain::{Answers, Traffic};

use crate::GET;
use crate::peers::{App, Client, eventually, hello};
use crate::rig::Rig;

#[test]
fn every_request_is_counted_once_and_a_kill_loses_none() {
    let app = App::start(|_| hello());
    let mut rig = Rig::apart("shop", &[&app]);
    let (mut sent, mut got) = (0, 0);
    for round in 0..3 {
        let clients: Vec<_> = (0..4)
            .map(|n| {
                let address = rig.address;
                std::thread::spawn(move || {
                    let mut client = Client::to(address);
                    for _ in 0..250 + n {
                        assert_eq!(client.ask(GET).status, 200);
                    }
                    (250 + n, client.got)
                })
            })
            .collect();
        for (requests, bytes) in clients.into_iter().map(|c| c.join().unwrap()) {
            sent += requests;
            got += bytes;
        }
        if round < 2 {
            rig.kill_and_start_again();
        }
    }
    assert_eq!(app.requests(), sent);
    rig.counted("shop", sent);
    let lives = rig.lives();
    assert_eq!(lives.len(), 1, "{lives:?}");
    // Committed, it is not sent again; what is counted then begins where it was.
    rig.commit();
    eventually("nothing to be owed", || rig.owed().is_empty());
    // Bytes are counted when they are written: a kill between the two loses one write a connection, never more, and counts
    // none twice.
    let lost_most = 2 * 4 * (got / sent);
    let counted = rig.sent_at_least("shop", got - lost_most);
    assert!(counted <= got, "{counted} bytes counted, {got} received");
    let mut client = rig.client();
    assert_eq!(client.ask(GET).status, 200);
    rig.counted("shop", sent + 1);
    rig.sent("shop", counted + client.got);
}

#[test]
fn graphs_get_each_answer_once_with_its_bytes_and_its_time_and_a_zero_where_nobody_asked() {
    let app = App::start(|head| {
        let status = head.split(['/', ' ']).nth(2).unwrap_or_default();
        if status == "slow" {
            std::thread::sleep(Duration::from_millis(300));
        }
        let status = status.parse().unwrap_or(200);
        // What it says is as long as a few writes.
        format!("HTTP/1.1 {status} So\r\nContent-Length: 300000\r\n\r\n{}", "x".repeat(300_000))
    });
    let quiet = App::start(|_| hello());
    let mut rig = Rig::with("shop", &[&app]);
    rig.add("quiet", RouteState::Live, &[&quiet]);
    rig.add("gone", RouteState::Live, &[]);
    rig.add("empty", RouteState::Empty, &[]);
    rig.publish();
    let mut client = rig.client();
    for what in ["200", "200", "slow", "302", "404", "500"] {
        client.ask(&format!("GET /{what} HTTP/1.1\r\nHost: shop.localhost\r\n\r\n"));
    }
    let got = client.got;
    assert_eq!(client.ask("GET / HTTP/1.1\r\nHost: gone.localhost\r\n\r\n").status, 503);
    rig.sent("shop", got);
    rig.stop();
    let mut sum = Traffic::default();
    for traffic in rig.samples("shop") {
        sum.bytes_out += traffic.bytes_out;
        sum.latency.merge(&traffic.latency);
        sum.answers.ok += traffic.answers.ok;
        sum.answers.redirect += traffic.answers.redirect;
        sum.answers.client_error += traffic.answers.client_error;
        sum.answers.server_error += traffic.answers.server_error;
    }
    let answers = Answers { ok: 3, redirect: 1, client_error: 1, server_error: 1, unanswered: 0 };
    assert_eq!((sum.answers, sum.bytes_out, sum.latency.count()), (answers, got, 6));
    let slowest = sum.latency.quantile(1000).unwrap();
    assert!((250..2_000).contains(&slowest.as_millis()), "{slowest:?}");
    assert!(sum.latency.quantile(500).unwrap().as_millis() < 250);
    let quiet = rig.samples("quiet");
    assert!(!quiet.is_empty() && quiet.iter().all(|traffic| *traffic == Traffic::default()));
    assert_eq!(rig.samples("gone").iter().map(|traffic| traffic.answers.unanswered).sum::<u64>(), 1);
    assert_eq!(rig.samples("empty"), []);
}
