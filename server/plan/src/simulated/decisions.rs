//! What is decided, fleet by fleet, and what holds for every fleet.

use proptest::prelude::*;

use super::*;

use InstanceState::{Healthy, Starting};

#[test]
fn what_should_run_and_does_not_is_started_where_the_fewest_of_its_kind_run() {
    let shop = || world(&[4096, 4096]).app(1, "shop", 1).release(1, 3, 2).serving(1, 3);
    check(shop(), &["start shop.web.1 on s1", "start shop.web.2 on s2"]);
    check(shop().instance(1, 3, 1, 2, Healthy), &["start shop.web.2 on s1"]);
    check(shop().instance(1, 3, 1, 2, Healthy).instance(1, 3, 2, 1, Starting), &[]);
}

#[test]
fn a_cut_off_server_is_replaced_but_never_stopped() {
    let shop = |silence| {
        world(&[4096, 4096])
            .app(1, "shop", 1)
            .release(1, 3, 2)
            .serving(1, 3)
            .instance(1, 3, 1, 2, Healthy)
            .instance(1, 3, 2, 1, Healthy)
            .silent("s1", silence)
    };
    check(shop(SERVER_LEASE / 2), &[]);
    check(shop(SERVER_LEASE * 2), &["start shop.web.2 on s2"]);
}

#[test]
fn when_a_lost_server_comes_back_the_extras_stop() {
    let both = world(&[4096, 4096])
        .app(1, "shop", 1)
        .release(1, 3, 1)
        .serving(1, 3)
        .instance(1, 3, 1, 1, Healthy)
        .instance(1, 3, 1, 2, Healthy);
    check(both, &["drain shop.web.1 of release 3"]);
}

#[test]
fn when_many_servers_fall_silent_together_nothing_is_moved() {
    let lost = |n: usize| {
        let mut world =
            world(&[4096; 6]).app(1, "shop", 1).release(1, 3, 1).serving(1, 3).instance(1, 3, 1, 1, Healthy);
        for server in &mut world.fleet.servers[..n] {
            server.presence = Presence::Heard(SERVER_LEASE * 2);
        }
        world
    };
    check(lost(1), &["start shop.web.1 on s2"]);
    check(lost(2), &[]);
}

#[test]
fn a_coordinator_that_has_just_begun_calls_nobody_lost() {
    let begun = |ago| {
        let mut world = world(&[4096, 4096]).app(1, "shop", 1).release(1, 3, 1).serving(1, 3);
        world = world.instance(1, 3, 1, 1, Healthy);
        world.fleet.servers[0].presence = Presence::NotYet(ago);
        world
    };
    check(begun(Duration::from_secs(1)), &[]);
    check(begun(SERVER_LEASE), &["start shop.web.1 on s2"]);
}

#[test]
fn a_server_that_did_not_say_how_big_it_is_is_waited_for() {
    check(world(&[0]).app(1, "shop", 1).deploy(1, 1, DeployState::Queued), &[]);
    check(world(&[512]).app(1, "shop", 1).deploy(1, 1, DeployState::Queued), &["fail deploy 1 of shop"]);
}

#[test]
fn what_fits_nowhere_is_refused_with_the_reason_and_its_deploy_fails() {
    let full = world(&[600])
        .app(1, "shop", 1)
        .release(1, 1, 1)
        .serving(1, 1)
        .instance(1, 1, 1, 1, Healthy)
        .release(1, 2, 1)
        .deploy(1, 2, DeployState::Starting);
    let plan = full.plan();
    assert_eq!(plan.len(), 1);
    assert_eq!(plan[0].what, "fail deploy 2 of shop");
    assert_eq!(
        plan[0].reason,
        "release 2 was not switched on, release 1 still serves: no server has 512 MiB of memory left for \
         shop.web.1; stop something, or ask the operator"
    );
}

#[test]
fn a_full_disk_refuses_what_is_new_and_never_what_serves() {
    let shop = |mib_free: u64| {
        let mut world = world(&[4096]).app(1, "shop", 1).release(1, 1, 1).serving(1, 1);
        world.fleet.servers[0].space =
            Some(Space { bytes: 20 << 30, free_bytes: mib_free << 20, reserve_bytes: 1 << 30 });
        world
    };
    check(shop(300), &["start shop.web.1 on s1"]);
    let building = shop(300).instance(1, 1, 1, 1, Healthy).deploy(1, 2, DeployState::Queued).plan();
    assert_eq!(
        building[0].reason.split(';').next().unwrap(),
        "release 2 was not switched on, release 1 still serves: server s1 has 300 MiB of disk free, and 1024 MiB must stay free"
    );
    let starting = shop(300).instance(1, 1, 1, 1, Healthy).release(1, 2, 1).deploy(1, 2, DeployState::Starting);
    check(starting, &["fail deploy 2 of shop"]);
    let room = shop(3000).instance(1, 1, 1, 1, Healthy).deploy(1, 2, DeployState::Queued);
    check(room, &["build deploy 2 of shop"]);
}

#[test]
fn an_old_release_is_drained_only_when_its_successor_is_confirmed_and_stopped_when_it_is_idle() {
    let switching = |state| {
        world(&[8192])
            .app(1, "shop", 1)
            .release(1, 1, 1)
            .release(1, 2, 1)
            .instance(1, 1, 1, 1, Healthy)
            .instance(1, 2, 1, 1, Healthy)
            .serving(1, 2)
            .deploy(1, 2, state)
    };
    let mut unconfirmed = switching(DeployState::Switching);
    unconfirmed.fleet.instances[1].held.routed_by_all = false;
    check(unconfirmed, &[]);
    let mut silent = switching(DeployState::Switching).later(DRAIN_MAX);
    silent.fleet.instances[1].held.routed_by_all = false;
    check(silent, &["finish deploy 2 of shop"]);
    check(switching(DeployState::Switching), &["finish deploy 2 of shop"]);

    let live = || {
        let mut world = switching(DeployState::Live);
        let id = DeployId(1002);
        world.enter(id, DeployState::Live, &[Step::Drain]);
        world
    };
    check(live(), &["drain shop.web.1 of release 1"]);
    let draining = |idle, since: Duration| {
        let mut world = live();
        let now = world.now;
        let old = &mut world.fleet.instances[0];
        (old.wanted, old.drain_since, old.held.idle) = (Wanted::Drain, Some(now), idle);
        world.later(since)
    };
    check(draining(false, Duration::from_secs(1)), &[]);
    check(draining(true, Duration::from_secs(1)), &["stop shop.web.1 of release 1"]);
    check(draining(false, DRAIN_MAX), &["stop shop.web.1 of release 1"]);
    // The balancers have the last word: what was open at its end is counted then.
    let ended = |idle| {
        let mut world = draining(idle, DRAIN_MAX);
        world.fleet.instances[0].ended = true;
        world
    };
    check(ended(false), &[]);
    check(ended(true), &["drained before deploy 2 of shop"]);
}

#[test]
fn pushes_to_one_app_queue_and_customers_build_one_at_a_time() {
    let apps = || world(&[16384]).app(1, "shop", 1).app(2, "notes", 1).app(3, "wiki", 2).app(4, "chat", 3);
    let queued = apps()
        .deploy(1, 1, DeployState::Queued)
        .deploy(1, 2, DeployState::Queued)
        .deploy(2, 1, DeployState::Queued)
        .deploy(3, 1, DeployState::Queued)
        .deploy(4, 1, DeployState::Queued);
    // The second of shop waits for the first, blog for its customer's builder, chat for a builder of the server.
    check(queued, &["build deploy 1 of shop", "build deploy 1 of wiki"]);
}

#[test]
fn a_push_that_waited_is_refused_when_the_branch_moved_meanwhile() {
    let waited = |before: Option<i64>| {
        let mut world = world(&[4096]).app(1, "shop", 1).deploy(1, 2, DeployState::Queued);
        world.fleet.deploys[0].before = before.map(commit);
        world.fleet.tips.push(Tip { app: AppId(1), branch: "main".into(), number: 1, commit: commit(1) });
        world
    };
    check(waited(Some(1)), &["build deploy 2 of shop"]);
    let refused = waited(None).plan();
    assert_eq!(refused[0].what, "fail deploy 2 of shop");
    assert!(refused[0].reason.contains("deploy 1 moved main to 0000000000 meanwhile"), "{}", refused[0].reason);
}

#[test]
fn the_next_deploy_waits_until_the_branch_of_the_one_before_was_moved() {
    let open = |since| {
        let mut world = world(&[4096]).app(1, "shop", 1).deploy(1, 1, DeployState::Live);
        world.enter(DeployId(1001), DeployState::Live, &[Step::Branch]);
        world.later(since).deploy(1, 2, DeployState::Queued)
    };
    check(open(Duration::from_secs(1)), &[]);
    check(open(Duration::from_secs(61)), &["build deploy 2 of shop"]);
}

#[test]
fn a_lost_builder_is_replaced_twice_then_the_build_fails() {
    let lost = |attempt| {
        let mut world = world(&[4096, 4096]).app(1, "shop", 1).deploy(1, 1, DeployState::Building);
        world.fleet.deploys[0].open[0].attempt = attempt;
        world.silent("s1", SERVER_LEASE)
    };
    check(lost(1), &["build again deploy 1 of shop"]);
    check(lost(BUILD_ATTEMPTS_MAX), &["fail deploy 1 of shop"]);
    let late = world(&[4096]).app(1, "shop", 1).deploy(1, 1, DeployState::Building);
    check(late.later(BUILD_TIME + Duration::from_secs(60)), &["fail deploy 1 of shop"]);
}

#[test]
fn a_customer_with_more_builds_at_once_and_more_time_gets_them() {
    let mut two = world(&[8192, 8192]).app(1, "shop", 1).app(2, "notes", 1).app(3, "chat", 1);
    two.fleet.apps.iter_mut().for_each(|app| app.builds_max = 2);
    let two = two.deploy(1, 1, DeployState::Queued).deploy(2, 1, DeployState::Queued).deploy(3, 1, DeployState::Queued);
    check(two, &["build deploy 1 of shop", "build deploy 1 of notes"]);
    let mut long = world(&[4096]).app(1, "shop", 1).deploy(1, 1, DeployState::Building);
    long.fleet.apps[0].build_time = BUILD_TIME * 2;
    check(long.later(BUILD_TIME + Duration::from_secs(60)), &[]);
}

#[test]
fn an_instance_that_cannot_start_fails_its_deploy_and_the_old_release_goes_on() {
    let mut world = world(&[8192])
        .app(1, "shop", 1)
        .release(1, 1, 1)
        .serving(1, 1)
        .instance(1, 1, 1, 1, Healthy)
        .deploy(1, 2, DeployState::Queued);
    world.broken.push(ReleaseNumber(2));
    for _ in 0..20 {
        world.tick();
        world.check_always();
    }
    assert!(world.fleet.deploys.is_empty(), "it has ended");
    let left: Vec<i64> = world.fleet.living().map(|i| i.slot.release.0).collect();
    assert_eq!(left, [1], "release 1 still serves, nothing of release 2 is left");
    assert_eq!(world.fleet.apps[0].serving, Some(ReleaseNumber(1)));
}

#[test]
fn what_fails_again_and_again_is_tried_again_less_and_less() {
    let failed = |times, ago| {
        let mut world = world(&[4096]).app(1, "shop", 1).release(1, 3, 1).serving(1, 3);
        let slot = Slot { app: AppId(1), release: ReleaseNumber(3), process: process("web"), index: 1 };
        let last = world.now;
        world.fleet.failures.push(Failure { slot, times, last, reason: None });
        world.later(Duration::from_secs(ago))
    };
    check(failed(1, 9), &[]);
    check(failed(1, 10), &["start shop.web.1 on s1"]);
    check(failed(3, 39), &[]);
    check(failed(3, 40), &["start shop.web.1 on s1"]);
}

#[test]
fn what_has_its_image_starts_without_a_builder_whatever_the_branch_says() {
    let mut world = world(&[600]).app(1, "shop", 1).release(1, 3, 1).serving(1, 3).instance(1, 3, 1, 1, Healthy);
    world.push(AppId(1), 4, DeployState::Queued);
    world.restart();
    world.fleet.tips.push(Tip { app: AppId(1), branch: "main".into(), number: 3, commit: commit(3) });
    check(world, &["start deploy 4 of shop"]);
}

#[test]
fn a_release_process_is_placed_once_and_when_its_server_is_lost_its_deploy_fails() {
    let mut world = world(&[4096, 2048]).app(1, "shop", 1).release(1, 3, 1).serving(1, 3).instance(1, 3, 1, 1, Healthy);
    world.add_release(AppId(1), ReleaseNumber(4), 1);
    let made = world.fleet.releases.get_mut(&(AppId(1), ReleaseNumber(4))).unwrap();
    made.manifest.processes.insert(process("release"), "migrate".to_owned());
    world.push(AppId(1), 4, DeployState::Releasing);
    let id = world.fleet.deploys[0].id;
    world.enter(id, DeployState::Releasing, &[Step::Release]);
    let actions = world.plan();
    assert_eq!(actions.iter().map(ToString::to_string).collect::<Vec<_>>(), ["run `release` of deploy 4 of shop"]);
    world.apply(&actions);
    let placed = world.fleet.instances.last().unwrap().clone();
    assert_eq!((placed.slot.process.as_str(), placed.memory_bytes), ("release", 512 * MIB));
    let fails = |world: &World| {
        let actions = world.plan();
        actions.into_iter().find_map(|a| match a.act {
            Act::Fail { reason, .. } => Some(reason.message),
            _ => None,
        })
    };
    // While it runs, nothing else of the release does, and nobody stops it.
    assert_eq!(world.plan(), vec![]);
    let server = world.fleet.server_name(placed.server);
    let mut lost = world.clone().silent(&server, SERVER_LEASE);
    assert!(fails(&lost).unwrap().contains("nobody knows how far it came"));
    lost.fleet.instances.retain(|i| i.id != placed.id);
    assert!(fails(&lost).unwrap().contains("nobody knows how far it came"), "it was given up meanwhile");
    let late = world.clone().later(Duration::from_secs(661));
    assert_eq!(fails(&late).unwrap(), "`release` did not end within 600 s");
    // Canceled, it ends.
    world.fleet.deploys.clear();
    check(world, &["stop shop.release.1 of release 4"]);
}

#[test]
fn scaled_up_it_starts_what_is_missing_and_scaled_down_it_drains_the_last() {
    let shop = |web| {
        let mut world = world(&[4096]).app(1, "shop", 1).release(1, 3, 2).serving(1, 3);
        world = world.instance(1, 3, 1, 1, Healthy).instance(1, 3, 2, 1, Healthy);
        world.fleet.releases.values_mut().for_each(|made| scaled_to(made, web));
        world
    };
    check(shop(3), &["start shop.web.3 on s1"]);
    check(shop(1), &["drain shop.web.2 of release 3"]);
    assert_eq!(shop(1).plan()[0].reason, "1 of web are wanted");
    check(shop(0), &["drain shop.web.1 of release 3", "drain shop.web.2 of release 3"]);
}

#[test]
fn a_deleted_app_has_no_route_and_its_instances_end() {
    let mut world = world(&[4096]).app(1, "shop", 1).release(1, 3, 1).serving(1, 3).instance(1, 3, 1, 1, Healthy);
    world.fleet.apps[0].state = AppState::Deleted;
    assert_eq!(route(&world.fleet), []);
    assert_eq!(world.plan()[0].reason, "its app was deleted");
    (0..5).for_each(|_| world.tick());
    assert_eq!(world.fleet.living().count(), 0);
}

#[test]
fn a_stopped_app_ends_and_has_a_page() {
    let mut world = world(&[4096]).app(1, "shop", 1).release(1, 3, 1).serving(1, 3).instance(1, 3, 1, 1, Healthy);
    world.fleet.apps[0].state = AppState::Stopped;
    assert_eq!(route(&world.fleet)[0].state, RouteState::Stopped);
    check(world, &["drain shop.web.1 of release 3"]);
}

#[test]
fn only_healthy_instances_of_what_serves_are_routed_to_while_there_is_one() {
    let ids = |world: &World| route(&world.fleet)[0].instances.iter().map(|i| i.id.0).collect::<Vec<_>>();
    let shop = |one, two| {
        world(&[8192])
            .app(1, "shop", 1)
            .release(1, 1, 2)
            .release(1, 2, 1)
            .serving(1, 1)
            .instance(1, 1, 1, 1, one)
            .instance(1, 1, 2, 1, two)
            .instance(1, 2, 1, 1, Healthy)
    };
    assert_eq!(ids(&shop(Healthy, Healthy)), [1, 2]);
    assert_eq!(ids(&shop(Healthy, InstanceState::Unhealthy)), [1]);
    assert_eq!(ids(&shop(InstanceState::Unhealthy, InstanceState::Crashed)), [1]);
    assert_eq!(ids(&shop(Starting, InstanceState::Crashed)), [] as [i64; 0]);
}

#[test]
fn a_request_may_wait_for_what_is_on_its_way_and_a_switch_falls_back_on_what_still_runs() {
    let row = |world: &World| route(&world.fleet)[0].clone();
    let starting = |world: World| row(&world).starting;
    let shop = || world(&[8192]).app(1, "shop", 1).release(1, 1, 1).serving(1, 1);
    // Nothing runs yet, and nothing stands in the way.
    assert!(starting(shop()));
    for (state, comes) in [(InstanceState::Placed, true), (Starting, true), (InstanceState::Crashed, true)] {
        assert_eq!(starting(shop().instance(1, 1, 1, 1, state)), comes, "{state:?}");
    }
    assert!(!starting(shop().instance(1, 1, 1, 1, Healthy)));
    let mut looping = shop().instance(1, 1, 1, 1, InstanceState::Crashed);
    looping.fleet.instances[0].back_off = Duration::from_secs(16);
    assert!(!starting(looping));
    let mut none = shop();
    none.fleet.releases.values_mut().for_each(|made| made.formation.values_mut().for_each(|size| size.count = 0));
    assert!(!starting(none), "scaled to 0");
    // A deploy is counted from its start to the end of its drain.
    for (state, counted) in [
        (DeployState::Queued, false),
        (DeployState::Building, false),
        (DeployState::Starting, true),
        (DeployState::Switching, true),
    ] {
        let world = shop().instance(1, 1, 1, 1, Healthy).deploy(1, 2, state);
        assert_eq!(!row(&world).deploys.is_empty(), counted, "{state:?}");
    }
    // What is being switched on crashes: the one before is routed to until it is there again, and not drained.
    let mut world = world(&[8192])
        .app(1, "shop", 1)
        .release(1, 1, 1)
        .release(1, 2, 1)
        .serving(1, 2)
        .instance(1, 1, 1, 1, Healthy)
        .instance(1, 2, 1, 1, InstanceState::Crashed)
        .deploy(1, 2, DeployState::Switching);
    let routed = |world: &World| row(world).instances.iter().map(|i| i.id.0).collect::<Vec<_>>();
    assert_eq!((routed(&world), row(&world).starting), (vec![1], true));
    assert_eq!(plan(&world.fleet, world.now), []);
    world.fleet.instances[1].state = Healthy;
    assert_eq!(routed(&world), [2]);
}

#[test]
fn a_server_is_asked_for_what_runs_on_it_only() {
    let world = world(&[8192, 8192])
        .app(1, "shop", 1)
        .release(1, 3, 2)
        .serving(1, 3)
        .instance(1, 3, 1, 1, Healthy)
        .instance(1, 3, 2, 2, Healthy)
        .deploy(1, 4, DeployState::Building);
    let one = assign(&world.fleet, ServerId(1));
    assert_eq!(one.instances.iter().map(|i| i.id.0).collect::<Vec<_>>(), [1]);
    assert_eq!(one.builds.len(), 1);
    let spec = &one.instances[0];
    assert_eq!((spec.env["BERTH_APP"].as_str(), spec.env["BERTH_RELEASE"].as_str()), ("shop", "3"));
    assert_eq!((spec.port, spec.limits.memory_bytes, spec.uids.root), (Some(WEB_PORT), 512 * MIB, (1 << 20) + 2));
    let two = assign(&world.fleet, ServerId(2));
    assert_eq!((two.instances.len(), two.builds.len(), two.images_kept.len()), (1, 0, 1));
}

#[test]
fn an_address_comes_back_as_late_as_it_can() {
    let mut world = world(&[8192]).app(1, "shop", 1);
    world.fleet.subnet = Subnet { network: Ipv4Addr::new(10, 0, 0, 0), prefix: 29 };
    let all: Vec<Ipv4Addr> = addresses(&world.fleet).collect();
    assert_eq!(all.first(), Some(&Ipv4Addr::new(10, 0, 0, 2)));
    assert_eq!((all.last(), all.len()), (Some(&Ipv4Addr::new(10, 0, 0, 6)), 5));
    let world = world.instance(1, 1, 1, 1, Healthy).instance(1, 1, 2, 1, Healthy);
    let free: Vec<u8> = addresses(&world.fleet).map(|a| a.octets()[3]).collect();
    assert_eq!(free, [4, 5, 6]);
}

#[derive(Debug, Clone)]
enum Event {
    Push(i64),
    BreakNext(i64),
    Silence(usize),
    Return(usize),
    Crash(usize),
    Fail(usize),
    Stop(usize),
    Go(usize),
    Wait(u8),
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let event = prop_oneof![
        4 => (1..=3i64).prop_map(Event::Push),
        1 => (1..=3i64).prop_map(Event::BreakNext),
        1 => (0..3usize).prop_map(Event::Silence),
        2 => (0..3usize).prop_map(Event::Return),
        2 => (0..20usize).prop_map(Event::Crash),
        1 => (0..20usize).prop_map(Event::Fail),
        1 => (0..3usize).prop_map(Event::Stop),
        2 => (0..3usize).prop_map(Event::Go),
        6 => (1..20u8).prop_map(Event::Wait),
    ];
    proptest::collection::vec(event, 1..60)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn whatever_happens_the_fleet_comes_to_run_what_it_should(events in events()) {
        let mut world = world(&[8192, 8192, 4096]).app(1, "shop", 1).app(2, "notes", 1).app(3, "wiki", 2);
        let mut numbers = BTreeMap::new();
        for event in events {
            match event {
                Event::Push(app) | Event::BreakNext(app) => {
                    let number = numbers.entry(app).and_modify(|n| *n += 1).or_insert(app * 100);
                    if matches!(event, Event::BreakNext(_)) {
                        world.broken.push(ReleaseNumber(*number));
                    }
                    let number = *number;
                    world.push(AppId(app), number, DeployState::Queued);
                }
                Event::Silence(n) => world.fleet.servers[n].presence = Presence::Heard(SERVER_LEASE * 2),
                Event::Return(n) => world.fleet.servers[n].presence = Presence::Heard(Duration::ZERO),
                Event::Crash(n) | Event::Fail(n) => {
                    let living: Vec<InstanceId> = world.fleet.living().map(|i| i.id).collect();
                    if let Some(id) = living.get(n) {
                        let instance = world.instance_mut(*id);
                        let fails = matches!(event, Event::Fail(_));
                        instance.state = if fails { InstanceState::Failed } else { InstanceState::Crashed };
                        instance.ended = fails;
                    }
                }
                Event::Stop(n) => world.fleet.apps[n].state = AppState::Stopped,
                Event::Go(n) => world.fleet.apps[n].state = AppState::Running,
                Event::Wait(seconds) => for _ in 0..seconds {
                    world.tick();
                    world.check_always();
                },
            }
        }
        for server in &mut world.fleet.servers {
            server.presence = Presence::Heard(Duration::ZERO);
        }
        for app in &mut world.fleet.apps {
            app.state = AppState::Running;
        }
        for _ in 0..400 {
            world.tick();
            world.check_always();
        }
        prop_assert_eq!(world.plan(), vec![], "it has come to rest");
        prop_assert!(world.fleet.deploys.is_empty(), "every deploy has ended: {:?}", world.fleet.deploys);
        for app in &world.fleet.apps {
            let mut running: Vec<&Slot> =
                world.fleet.living().filter(|i| i.slot.app == app.id && i.state == Healthy).map(|i| &i.slot).collect();
            running.sort();
            let formation = app.serving.map_or(0, |s| world.fleet.releases[&(app.id, s)].formation[&process("web")].count);
            prop_assert_eq!(running.len(), usize::from(formation), "{} runs {:?}", app.name, running);
            prop_assert!(running.iter().all(|s| Some(s.release) == app.serving));
        }
    }

    #[test]
    fn the_same_fleet_gives_the_same_plan(events in events()) {
        let mut world = world(&[4096, 4096]).app(1, "shop", 1).app(2, "notes", 2).app(3, "wiki", 3);
        for (n, event) in events.iter().enumerate() {
            if let Event::Push(app) = event {
                world.push(AppId(*app), n as i64 + 1, DeployState::Queued);
            }
            prop_assert_eq!(world.plan(), world.plan());
            world.tick();
        }
    }

    /// While a release serves and its server is heard of, there is no moment without a healthy instance of
    /// it or of its successor in the routes.
    #[test]
    fn a_deploy_never_leaves_an_app_without_a_routed_instance(
        pushes in 1..6i64, broken in any::<u8>(), restarts in any::<u8>(), scaled in 1..4u16,
    ) {
        let mut world = world(&[16384]).app(1, "shop", 1).release(1, 1, 2).serving(1, 1)
            .instance(1, 1, 1, 1, Healthy).instance(1, 1, 2, 1, Healthy);
        for n in 0..pushes {
            if broken & (1 << n) != 0 {
                world.broken.push(ReleaseNumber(n + 2));
            }
            world.push(AppId(1), n + 2, DeployState::Queued);
            if restarts & (1 << n) != 0 {
                world.restart();
            }
        }
        for moment in 0..200 {
            if moment == 20 {
                for made in world.fleet.releases.values_mut() {
                    scaled_to(made, scaled);
                }
            }
            world.tick();
            world.check_always();
            let table = route(&world.fleet);
            prop_assert!(!table[0].instances.is_empty());
            for routed in &table[0].instances {
                let instance = world.fleet.instances.iter().find(|i| i.id == routed.id).unwrap();
                prop_assert!(instance.wanted == Wanted::Run && !instance.ended);
            }
        }
        prop_assert!(world.fleet.deploys.is_empty());
    }
}

/// A fleet's servers as [`stranded`] is told of them.
fn standings(fleet: &Fleet) -> Vec<Standing> {
    let standing = |server: &Server| {
        let mut runs: Vec<&Instance> = fleet.living().filter(|i| i.server == server.id).collect();
        runs.sort_by_key(|i| i.slot.clone());
        Standing {
            server: server.id,
            answers: true,
            has_room: true,
            memory_bytes: server.memory_bytes,
            reserved_bytes: runs.iter().map(|i| i.memory_bytes).sum(),
            builds: 0,
            runs: runs
                .into_iter()
                .map(|i| Runs {
                    app: i.slot.app,
                    release: i.slot.release,
                    process: i.slot.process.clone(),
                    memory_bytes: i.memory_bytes,
                })
                .collect(),
        }
    };
    fleet.servers.iter().map(standing).collect()
}

#[test]
fn a_fleet_of_one_server_cannot_lose_it_and_one_of_two_halves_can() {
    let shop = |servers: &[u64]| {
        let mut world = world(servers).app(1, "shop", 1).release(1, 3, 2).serving(1, 3);
        (0..4).for_each(|_| world.tick());
        stranded(&standings(&world.fleet)).iter().map(|s| (s.server.0, s.runs, s.without_place)).collect::<Vec<_>>()
    };
    assert_eq!(shop(&[4096]), [(1, 2, 2)]);
    assert_eq!(shop(&[1024, 1024]), []);
    assert_eq!(shop(&[1024, 512]), [(1, 1, 1)], "what is left of s2 is taken");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn what_would_be_stranded_is_what_no_place_is_found_for_when_the_server_dies(
        servers in prop::collection::vec(1_u64..9, 1..6),
        apps in prop::collection::vec((1_u16..4, 1_u64..5), 1..8),
    ) {
        let mib: Vec<u64> = servers.iter().map(|n| n * 512).collect();
        let mut world = world(&mib);
        for (n, (web, size)) in apps.iter().enumerate() {
            let id = n as i64 + 1;
            world = world.app(id, &format!("app{id}"), 1).release(id, 1, *web).serving(id, 1);
            let release = world.fleet.releases.get_mut(&(AppId(id), ReleaseNumber(1))).unwrap();
            release.formation.values_mut().for_each(|of| of.memory_bytes = size * 256 * MIB);
        }
        (0..4).for_each(|_| world.tick());
        let refused = place(&world.fleet, world.now).1.len();
        let told = stranded(&standings(&world.fleet));
        for server in &world.fleet.servers {
            let lost = world.clone().silent(&server.name, SERVER_LEASE * 2);
            let without = place(&lost.fleet, lost.now).1.len() - refused;
            let said = told.iter().find(|s| s.server == server.id).map_or(0, |s| s.without_place);
            prop_assert_eq!(said, without, "{} of {:?}", server.name, told);
        }
    }
}
