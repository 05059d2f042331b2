//! Pages as text: what a person reads, without a browser.

use app::*;
use commands::*;
use domain::*;

mod samples;
use samples::people::*;
use samples::usage::*;
use samples::*;

/// Every page with made-up views, by name; `hostile` words stand wherever a stranger can write.
fn pages(hostile: &str) -> Vec<(&'static str, String)> {
    let (site, mut ines) = (site(), ines());
    ines.name = hostile.to_owned();
    ines.customer_name = hostile.to_owned();
    let out = Page { site: &site, user: None, now: NOW };
    let page = Page { user: Some(&ines), ..out };
    let typed = || Typed::wrong(hostile, hostile);
    let mut key = key(1, hostile, None);
    key.fingerprint = hostile.to_owned();
    let lines = || lines(&[("web.1", hostile), (hostile, "x"), ("berth", hostile)]);
    let hostile_row = |state| {
        let mut row = row(142, state, hostile, 18, 90);
        row.branch = hostile.to_owned();
        row.by = Some(hostile.to_owned());
        row.reason = Some(Reason::new(hostile).hint(hostile));
        row
    };
    let mut app_view = orchard();
    app_view.summary = hostile.to_owned();
    app_view.deploy_branch = hostile.to_owned();
    app_view.deploys = vec![hostile_row(DeployState::Failed), hostile_row(DeployState::Live)];
    let mut deploy_view = failed();
    let steps = std::mem::take(&mut deploy_view.row.steps);
    deploy_view.row = DeployRow { steps, ..hostile_row(DeployState::Failed) };
    deploy_view.row.steps[0].detail = Some(hostile.to_owned());
    deploy_view.facts = deploy_view.facts.map(|facts| DeployFacts {
        key: Some(hostile.to_owned()),
        change: Some(Change { before: hostile.to_owned(), after: hostile.to_owned() }),
        found: [(Step::Start, vec![Piece::Code(hostile.to_owned()), Piece::Text(hostile.to_owned())])].into(),
        ..facts
    });
    let mut rows = app_rows();
    rows[0].summary = hostile.to_owned();
    let key_form = || KeyForm { name: typed(), key: typed(), general: Some(hostile.to_owned()) };
    let problem = Problem { title: hostile.to_owned(), message: hostile.to_owned(), hint: Some(hostile.to_owned()) };
    vec![
        ("landing", landing(out, Some(&money::price_list()))),
        (
            "sign_up",
            sign_up(
                out,
                typed(),
                typed(),
                Some(hostile.to_owned()),
                Some(hostile.to_owned()),
                Some((Currency::EUR, Money::ZERO)),
            ),
        ),
        ("sign_in", sign_in(out, typed(), Some(hostile.to_owned()), Some(hostile.to_owned()), Some(Welcome::New))),
        ("link", link(out, &Secret::new(hostile.to_owned()))),
        ("account", account(page, account_page(vec![key.clone()], key_form(), hostile))),
        (
            "activity",
            activity(
                page,
                ActivityPage {
                    app: Some("orchard".to_owned()),
                    events: vec![event(hostile)],
                    older: true,
                    next: Some(1),
                },
            ),
        ),
        ("reset_ask", reset_ask(out, typed(), Some(hostile.to_owned()), true)),
        ("reset_set", reset_set(out, &Secret::new(hostile.to_owned()), Some(hostile.to_owned()), None)),
        ("confirm", confirm(out, &Secret::new(hostile.to_owned()))),
        ("servers", servers(page, overview(hostile))),
        ("customers", customers(page, customers_page(hostile))),
        ("customer", customer(page, customer_page(hostile), CustomerForm { apps: typed(), ..CustomerForm::default() })),
        ("decisions", decisions(page, decisions_page(hostile))),
        ("letters", letters(page, letters_view(hostile), None)),
        ("billing", billing(page, money::bill())),
        ("billing_empty", billing(page, money::empty_bill())),
        ("why", why(page, money::why())),
        ("why_day", why(page, money::why_day())),
        ("why_since", why(page, money::why_since())),
        ("prices", prices(page, money::prices(), price_form(hostile))),
        ("usage", usage(page, orchard(), usage_view(Range::Day), Some(money::range_cost(Range::Day)))),
        (
            "apps",
            apps(
                page,
                AppsPage {
                    apps: rows,
                    sparks: sparks(),
                    asked: AppsAsked { q: String::new(), from: 0 },
                    events: vec![event(hostile)],
                },
            ),
        ),
        (
            "none",
            apps(
                page,
                AppsPage {
                    apps: app_rows(),
                    sparks: sparks(),
                    asked: AppsAsked { q: hostile.to_owned(), from: 0 },
                    events: vec![],
                },
            ),
        ),
        ("delete_user", delete_user(page, typed(), Some(hostile.to_owned()))),
        ("new", new_app(page, NewApp { keys: vec![key], name: typed(), key: key_form(), ..NewApp::default() })),
        ("first", new_app(page, NewApp { key: key_form(), first: true, ..NewApp::default() })),
        (
            "app",
            app::app(
                page,
                AppPage {
                    app: app_view,
                    newest: Some(deploy_view.clone()),
                    lines: Some(lines()),
                    build: Some(lines()),
                    after: String::new(),
                    usage: Some(usage_view(Range::Hour)),
                    scaled: Scaled {
                        typed: [("web".to_owned(), hostile.to_owned())].into(),
                        wrong: Some((None, hostile.to_owned())),
                    },
                },
            ),
        ),
        (
            "config",
            config(
                page,
                orchard(),
                config_view(hostile),
                ConfigForm { name: typed(), value: typed(), ..ConfigForm::default() },
            ),
        ),
        ("delete", delete(page, "orchard", typed())),
        (
            "deploy",
            deploy(
                page,
                DeployPage {
                    app: orchard(),
                    deploy: deploy_view,
                    lines: Some(lines()),
                    printed: Some(Printed { lines: lines(), from: NOW, to: NOW }),
                    after: String::new(),
                },
            ),
        ),
        ("error", error(page, problem)),
        (
            "logs",
            logs(
                page,
                LogsPage {
                    app: orchard(),
                    form: LogsForm { text: typed(), source: typed(), since: typed(), until: typed() },
                    shown: Some(wire::LogPage {
                        lines: lines(),
                        before: Some(7),
                        after: Some(9),
                        ..Default::default()
                    }),
                    after: None,
                },
            ),
        ),
        (
            "deploys",
            deploys(
                page,
                DeploysPage { app: orchard(), rows: vec![hostile_row(DeployState::Live)], older: true, next: Some(7) },
            ),
        ),
    ]
}

fn price_form(hostile: &str) -> PriceForm {
    let typed = MeterTyped { price: hostile.to_owned(), ..MeterTyped::default() };
    let wrong = vec![("since".to_owned(), hostile.to_owned()), ("cpu-price".to_owned(), hostile.to_owned())];
    PriceForm { typed: NewPrices { since: hostile.to_owned(), meters: [(Meter::Cpu, typed)].into() }, wrong }
}

/// The text that a person reads, without elements.
fn read(html: &str) -> String {
    let mut text = String::new();
    let mut inside = false;
    for c in html.chars() {
        match c {
            '<' => {
                inside = true;
                text.push(' ');
            }
            '>' => inside = false,
            c if !inside => text.push(c),
            _ => {}
        }
    }
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn every_page_has_one_heading_a_skip_link_and_nothing_inline() {
    for (name, html) in pages("Ines") {
        assert_eq!(html.matches("<h1").count(), 1, "{name}");
        assert!(html.starts_with("<!DOCTYPE html><html lang=\"en\">"), "{name}");
        assert!(
            html.contains("<a class=\"skip\" href=\"#main\">") || html.contains("href=\"#main\" class=\"skip\""),
            "{name}"
        );
        for never in [" style=", "<style", " onclick", "javascript:"] {
            assert!(!html.contains(never), "{name}: {never}");
        }
    }
}

#[test]
fn strangers_words_stay_words_on_every_page() {
    let hostile = "</pre></textarea><script>alert(1)</script>\"' onload=x <b>";
    for (name, html) in pages(hostile) {
        for never in ["<script>", "</textarea><script", "<b>\"", "<b></"] {
            assert!(!html.contains(never), "{name}: {never}\n{html}");
        }
        // In an attribute, a quotation mark would end it.
        assert!(!html.contains("</script>\"' onload"), "{name}\n{html}");
    }
}

#[test]
fn pages_without_islands_load_no_script() {
    for (name, html) in pages("Ines") {
        let has = html.contains("<leptos-island");
        assert_eq!(html.contains("berth.js"), has, "{name}");
        assert_eq!(html.contains("berth_bg.wasm"), has, "{name}");
    }
}

#[test]
fn what_the_stream_sends_has_its_place_on_the_page() {
    let (site, ines) = (site(), ines());
    let page = Page { site: &site, user: Some(&ines), now: NOW };
    let check = |html: String, regions: Vec<Region>| {
        for region in regions {
            let place = format!("data-region=\"{}\" data-hash=\"{}\"", region.name, region.hash());
            assert!(html.contains(&place), "{place}");
            assert!(html.contains(&region.html), "{}", region.name);
        }
    };
    let shown = AppPage {
        app: orchard(),
        newest: Some(deploying()),
        lines: Some(vec![]),
        build: None,
        after: String::new(),
        usage: Some(usage_view(Range::Hour)),
        scaled: Default::default(),
    };
    check(app::app(page, shown), of_app(&orchard(), Some(&deploying()), Some(&usage_view(Range::Hour)), NOW));
    let shown =
        DeployPage { app: orchard(), deploy: failed(), lines: None, printed: Some(last_words()), after: String::new() };
    check(deploy(page, shown), of_deploy(&orchard(), &failed(), Some(&last_words()), NOW));
}

#[test]
fn a_logs_links_keep_what_was_asked_for() {
    let (site, ines) = (site(), ines());
    let page = Page { site: &site, user: Some(&ines), now: NOW };
    let form = || LogsForm { text: Typed::new("5\"0 &<ä"), source: Typed::new("web"), ..LogsForm::default() };
    let asked = "?text=5%220%20%26%3C%C3%A4&source=web";
    assert_eq!(form().query(Some(("before", 7))), format!("{asked}&before=7"));
    assert_eq!(LogsForm::default().query(None), "");
    let shown = |page: wire::LogPage, after| LogsPage { app: orchard(), form: form(), shown: Some(page), after };
    let middle = wire::LogPage { before: Some(7), after: Some(9), stopped: Some(NOW), ..Default::default() };
    let html = logs(page, shown(middle, None)).replace("&amp;", "&");
    for link in ["&before=7", "&after=9", ""] {
        assert!(html.contains(&format!("href=\"/apps/orchard/logs{asked}{link}\"")), "{link}\n{html}");
    }
    assert!(html.contains(&format!("/logs/download{asked}")) && !html.contains("data-events"));
    assert!(read(&html).contains("and found none that match"));
    let html = logs(page, shown(wire::LogPage::default(), Some("9.0.0".to_owned()))).replace("&amp;", "&");
    assert!(html.contains(&format!("data-events=\"/apps/orchard/logs/events{asked}\"")), "{html}");
    assert!(read(&html).contains("No line matches."));
}

fn last_words() -> Printed {
    let lines = lines(&[("web.1", "[INFO] Listening at: http://127.0.0.1:8000 (7)")]);
    Printed { lines, from: ago(200), to: ago(140) }
}

fn deploy_page(view: DeployView) -> String {
    let (site, ines) = (site(), ines());
    let page = Page { site: &site, user: Some(&ines), now: NOW };
    let printed = (view.row.state == DeployState::Failed).then(last_words);
    let shown =
        DeployPage { app: orchard(), deploy: view, lines: Some(build_lines()), printed, after: "0.142.4".to_owned() };
    deploy(page, shown)
}

#[test]
fn a_failed_deploy_says_why_what_visitors_saw_and_what_to_do() {
    let text = read(&deploy_page(failed()));
    for said in [
        "web listens on 127.0.0.1:8000; it has to listen on 0.0.0.0 and the port in $PORT.",
        "Your visitors noticed nothing: v137 kept serving.",
        "What to do In Procfile , change the line web to this",
        "v138 never served did not start",
        "Start (failed) 61.7 s",
        "0 of 1 answered; 60 s allowed",
        "the same commit can be pushed again",
        "- web: gunicorn notes.wsgi --bind 127.0.0.1:8000 + web: gunicorn notes.wsgi --bind 0.0.0.0:$PORT",
        "Key harbour-laptop",
        "Listening at: http://127.0.0.1:8000",
        "v137 served meanwhile",
    ] {
        assert!(text.contains(said), "{said}\n{text}");
    }
    assert!(!text.contains("(not yet)"), "a deploy that is over has no steps to come\n{text}");
}

#[test]
fn an_open_deploy_counts_on_and_says_what_comes() {
    let html = deploy_page(deploying());
    let text = read(&html);
    for said in [
        "Starting , 18 s",
        "Pushed with git by Ines Falk from harbour-laptop : 3fd20aab7c → 9c41e7b0d2 on main, today 14:31",
        "The last 3 took 19 to 24 s.",
        "Build 13.4 s Python: web and worker; an image of 84 MiB",
        "Start (running) 4 s 1 of 2 answers /healthz",
        "Switch (not yet)",
        "v141 keeps serving",
        "Roll back to v140",
    ] {
        assert!(text.contains(said), "{said}\n{text}");
    }
    assert!(html.contains("data-ticks=\"18000\"") && html.contains("data-events=\"/apps/orchard/deploys/142/events\""));
    assert!(html.contains("<noscript><meta http-equiv=\"refresh\" content=\"5\"></noscript>"));
    assert!(!deploy_page(failed()).contains("http-equiv=\"refresh\""), "what is over does not come again");
}

#[test]
fn an_app_without_a_deploy_shows_the_one_thing_to_do() {
    let (site, ines) = (site(), ines());
    let page = Page { site: &site, user: Some(&ines), now: NOW };
    let shown = AppPage {
        app: empty_app(),
        newest: None,
        lines: Some(vec![]),
        build: None,
        after: "0.0.0".to_owned(),
        usage: Some(no_usage(Range::Hour)),
        scaled: Default::default(),
    };
    let text = read(&app::app(page, shown));
    assert!(
        text.contains("git remote add berth ssh://berth@berth.example:2222/kiln.git git push berth main")
            || text.contains("kiln.gitgit push berth main"),
        "{text}"
    );
    assert!(text.contains("Not deployed") && text.contains("nothing serves yet"), "{text}");
}

#[test]
fn what_needs_somebody_is_said_first() {
    let (site, ines) = (site(), ines());
    let page = Page { site: &site, user: Some(&ines), now: NOW };
    let all = |apps| AppsPage { apps, sparks: sparks(), asked: AppsAsked::default(), events: vec![] };
    let text = read(&apps(page, all(app_rows())));
    assert!(text.contains("5 apps of Fernway Studio. One needs you: fieldnotes."), "{text}");
    let calm: Vec<AppRow> = app_rows().into_iter().filter(|app| app.health != AppHealth::Warned).collect();
    assert!(read(&apps(page, all(calm))).contains("Nothing needs you."));
}

#[test]
fn the_operator_reads_first_what_needs_them() {
    let (site, ines) = (site(), ines());
    let page = Page { user: Some(&ines), site: &site, now: NOW };
    let title = |change: fn(&mut OverviewView)| {
        let mut view = overview("s2");
        view.servers.truncate(1);
        (view.customers_waiting, view.letters_failed) = (0, 0);
        change(&mut view);
        let html = servers(page, view);
        let rest = html.split("<h1").nth(1).and_then(|rest| rest.split('>').nth(1)).unwrap_or_default();
        rest.split('<').next().unwrap_or_default().to_owned()
    };
    assert_eq!(title(|_| ()), "Nothing needs you");
    assert_eq!(title(|v| v.customers_waiting = 1), "A customer waits for you");
    assert_eq!(title(|v| v.letters_failed = 2), "2 mails could not be sent");
    assert_eq!(title(|v| v.servers[0].disk_is_short = true), "The disk of s1 is full");
    assert_eq!(title(|v| v.servers[0].silent_seconds = None), "s1 is silent");
}

#[test]
fn the_operator_reads_whether_the_fleet_can_lose_a_server() {
    let (site, ines) = (site(), ines());
    let page = Page { site: &site, user: Some(&ines), now: NOW };
    let text = |change: fn(&mut OverviewView)| {
        let mut view = calm_overview();
        change(&mut view);
        read(&servers(page, view))
    };
    let stranded = |server: &str, without_place| StrandedView { server: server.to_owned(), runs: 13, without_place };
    let calm = text(|_| ());
    for said in [
        "Nothing needs you",
        "6 servers, 231 instances of 214 accounts. If any one server died now, its apps would fit on the others.",
        "Memory used 105 of 192 GiB 131 promised to apps",
        "CPU 31 % of 96 cores",
        "Requests 1,284 /s 0.01 % errors of ours",
        "Deploys today 61 2 failed; 0 requests failed in them",
        "Memory of 32 GiB",
    ] {
        assert!(calm.contains(said), "{said}\n{calm}");
    }
    let one = servers(page, OverviewView { stranded: vec![stranded("s2", 3)], ..calm_overview() });
    let one = read(&one);
    assert!(one.contains("The fleet has no room to lose a server"), "{one}");
    assert!(one.contains("If s2 died now, 3 of its 13 instances would find no place on the others."), "{one}");
    let two = OverviewView { stranded: vec![stranded("s1", 13), stranded("s2", 1)], ..calm_overview() };
    let two = read(&servers(page, two));
    assert!(two.contains("If one of s1, s2 died now, not all of its apps would fit on the others."), "{two}");
    let alone = text(|view| view.servers.truncate(1));
    assert!(alone.contains("Nothing needs you") && alone.contains("There is no other server"), "{alone}");
}

fn usage_page(range: Range, view: UsageView) -> String {
    let (site, ines) = (site(), ines());
    assert_eq!(view.range, range);
    usage(Page { site: &site, user: Some(&ines), now: NOW }, orchard(), view, Some(money::range_cost(range)))
}

#[test]
fn a_graphs_table_says_what_is_drawn_and_a_gap_is_no_zero() {
    for range in Range::ALL {
        let html = usage_page(range, usage_view(range));
        let (_, points) = range.step();
        assert_eq!(html.matches("<figure").count(), 5);
        assert_eq!(
            html.matches("<tr><th scope=\"row\">").count(),
            5 * points + 3 + 5,
            "a row a point, three with a sum; four meters and their sum"
        );
        // Six of each column were not seen: its line is cut.
        let gaps = html.matches(">–<").count();
        assert_eq!(gaps, 6 * (5 + 3 + 1 + 2 + 1));
        let median = html.split("aria-label=\"Answer time ").nth(1).unwrap();
        let median = median.split("</svg>").next().unwrap();
        let median = median.split("<path stroke=\"#48595E\"").nth(1).and_then(|path| path.split("/>").next()).unwrap();
        assert_eq!(median.matches('M').count(), 2, "two runs: {median}");
        assert!(!html.contains("style=\""));
    }
    let text = read(&usage_page(Range::Day, usage_view(Range::Day)));
    for said in
        ["1.445 million", "at most 1.67 GiB of 2.00 GiB", "10.1 CPU-hours", "3.70 GiB", "v142", "Mon 16 Nov 14:30"]
    {
        assert!(text.contains(said), "{said} is not in {text}");
    }
}

#[test]
fn beside_each_graph_stands_what_its_meter_costs_as_a_link_to_why() {
    let html = usage_page(Range::Day, usage_view(Range::Day));
    for (title, meter, amount) in [
        ("Requests", "requests", "€0.14"),
        ("CPU", "cpu", "€0.36"),
        ("Memory", "memory", "€0.24"),
        ("Data out", "bytes_out", "€0.07"),
    ] {
        let figure = html.split("<figcaption>").find(|figure| figure.starts_with(&format!("<h2>{title}"))).unwrap();
        let caption = figure.split("</figcaption>").next().unwrap();
        let href = format!("/billing/why/2026-11?app=orchard&amp;meter={meter}&amp;since=2026-11-16T14:00");
        assert!(
            caption.contains(&format!("href=\"{href}\"")) && caption.contains(&format!(">{amount}</a>")),
            "{caption}"
        );
    }
    let text = read(&html);
    assert!(text.contains("What this day cost") && text.contains("€0.81"), "{text}");
    assert!(!html.split("Answer time").nth(1).unwrap().split("</figcaption>").next().unwrap().contains("money"));
    let why = read(&why(Page { site: &site(), user: Some(&ines()), now: NOW }, money::why_since()));
    for said in [
        "Requests of orchard, since Sun 18 Oct 08:00",
        "1 Nov 00:00 to 1 Dec 00:00",
        "18 Oct, from 08:00",
        "Each meter to the cent",
    ] {
        assert!(why.contains(said), "{said} is not in {why}");
    }
}

#[test]
fn no_drawing_of_a_graph_is_over_three_kilobytes() {
    for range in Range::ALL {
        let mut view = usage_view(range);
        // The worst: every class comes at each point, and none is like the one before.
        for (n, point) in view.points.iter_mut().enumerate() {
            let odd = |by: usize| ((n * 7_919 * by) % 97) as f64;
            let gap = n % 20 == 7;
            point.requests = (!gap).then(|| commands::Classes {
                ok: 30.0 + odd(1),
                redirect: 20.0 + odd(3),
                client_error: 20.0 + odd(5),
                server_error: 20.0 + odd(7),
                unanswered: 0.0,
            });
        }
        let html = usage_page(range, view);
        let drawings: Vec<&str> = html.split("<svg viewBox=\"0 -1").skip(1).collect();
        assert_eq!(drawings.len(), 5);
        for drawing in drawings {
            let bytes = drawing.split("</svg>").next().unwrap().len();
            assert!((300..3_000).contains(&bytes), "{range:?}: {bytes}");
        }
    }
}

#[test]
fn who_has_nothing_to_show_is_told_why_and_what_is_next() {
    let text = read(&usage_page(Range::Month, no_usage(Range::Month)));
    assert!(text.contains("A month with no data.") && !text.contains("Answer time"), "{text}");
    assert!(text.contains("What it said last") && text.contains("What these 30 days cost"), "{text}");
    let (site, ines) = (site(), ines());
    let page = Page { site: &site, user: Some(&ines), now: NOW };
    let stopped = commands::AppView { state: domain::AppState::Stopped, ..orchard() };
    let text = read(&usage(page, stopped, no_usage(Range::Day), None));
    assert!(text.contains("It is stopped.") && text.contains("Start orchard"), "{text}");
    let text = read(&usage(page, empty_app(), no_usage(Range::Hour), None));
    assert!(text.contains("Nothing runs yet.") && text.contains("git push berth main"), "{text}");
}

#[test]
fn the_apps_page_says_how_it_does_now() {
    let (site, ines) = (site(), ines());
    let page = Page { site: &site, user: Some(&ines), now: NOW };
    let shown = |usage| AppPage {
        app: orchard(),
        newest: Some(deploying()),
        lines: None,
        build: None,
        after: String::new(),
        usage,
        scaled: Default::default(),
    };
    let text = read(&app::app(page, shown(Some(usage_view(Range::Hour)))));
    for said in ["29.4 /s", "0.02 % errors", "84 ms", "p50 32, p99 206", "0.68 cores", "1.67 GiB", "Last hour"] {
        assert!(text.contains(said), "{said} is not in {text}");
    }
    let text = read(&app::app(page, shown(Some(no_usage(Range::Hour)))));
    assert!(text.contains("nothing seen lately") && text.contains("Nothing was seen of it in the last hour."));
}
