//! The archive on real files: what a reader gets, whatever happened to the writer.

use std::fs::{self, OpenOptions};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use domain::wire::{Lines, LogLine, LogStream, NewLine};
use domain::{AppId, LogFilter, Time};
use proptest::prelude::*;

use crate::archive::{Archive, From};
use crate::page::{Towards, Turn};
use crate::read::Wish;

const APP: LogStream = LogStream::App(AppId(7));
const DEPLOY: LogStream = LogStream::Deploy(AppId(7), 3);
const MIB: u64 = 1 << 20;
const DAY: Duration = Duration::from_secs(86_400);
fn wish() -> Wish {
    Wish { lines_max: 500, bytes_max: 64 << 10, filter: LogFilter::default(), behind_max: None }
}

fn archive(dir: &Path) -> Archive {
    Archive::new(dir, 64 * MIB, 7, 4 << 10)
}

fn now() -> SystemTime {
    SystemTime::now()
}

/// Lines of `origin` that say their position.
fn lines(stream: LogStream, origin: &str, positions: impl IntoIterator<Item = u64>) -> Lines {
    let line = |position| NewLine {
        position,
        at: Time::from_unix_micros(position as i64),
        source: "web.1".to_owned(),
        text: format!("{origin}:{position}"),
    };
    Lines { stream, origin: origin.to_owned(), lines: positions.into_iter().map(line).collect() }
}

fn read_with(archive: &Archive, stream: LogStream, from: From, wish: Wish) -> Vec<LogLine> {
    let (mut place, _) = archive.open(stream, from, now()).unwrap();
    let mut read = Vec::new();
    loop {
        let chunk = archive.read(stream, place, &wish, now()).unwrap();
        place = chunk.place;
        read.extend(chunk.lines);
        if chunk.ended {
            return read;
        }
    }
}

fn read(archive: &Archive, stream: LogStream) -> Vec<LogLine> {
    read_with(archive, stream, From::After(0), wish())
}

fn texts(lines: &[LogLine]) -> Vec<&str> {
    lines.iter().map(|line| line.text.as_str()).collect()
}

/// Each cursor is one above the one before.
fn assert_gapless(lines: &[LogLine], first: u64) {
    for (cursor, line) in (first..).zip(lines) {
        assert_eq!(line.cursor, cursor, "{line:?}");
    }
}

fn files(dir: &Path, folder: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir.join(folder));
    let mut files: Vec<PathBuf> = entries.map(|e| e.map(|e| e.unwrap().path()).collect()).unwrap_or_default();
    files.sort();
    files
}

fn size(dir: &Path) -> u64 {
    files(dir, "7").iter().flat_map(|folder| files(folder, "")).map(|file| fs::metadata(file).unwrap().len()).sum()
}

fn cut(file: &Path, bytes: u64) {
    OpenOptions::new().write(true).open(file).unwrap().set_len(bytes).unwrap();
}

#[test]
fn lines_get_cursors_one_by_one_and_are_read_back_over_segments_and_restarts() {
    let dir = tempfile::tempdir().unwrap();
    for batch in 0..20 {
        // A new archive knows only what the files say.
        let archive = archive(dir.path());
        archive.append(&lines(APP, "instance/1", batch * 50..(batch + 1) * 50), now()).unwrap();
        archive.append(&lines(DEPLOY, "build", [batch]), now()).unwrap();
    }
    let archive = archive(dir.path());
    let all = read(&archive, APP);
    assert_gapless(&all, 1);
    assert_eq!(all.len(), 1000);
    assert_eq!(texts(&all), (0..1000).map(|n| format!("instance/1:{n}")).collect::<Vec<_>>());
    assert_eq!(read(&archive, DEPLOY).len(), 20);
    assert!(files(dir.path(), "7/app").len() > 10, "segments are begun anew");
}

#[test]
fn a_reader_goes_on_behind_a_cursor_and_begins_with_the_last_lines_or_at_a_time() {
    let dir = tempfile::tempdir().unwrap();
    let archive = archive(dir.path());
    archive.append(&lines(APP, "a", 1..=1000), now()).unwrap();
    let few = Wish { lines_max: 3, ..wish() };
    for wish in [wish(), few] {
        assert_eq!(read_with(&archive, APP, From::After(997), wish.clone()).len(), 3);
        assert_eq!(read_with(&archive, APP, From::After(1000), wish.clone()).len(), 0);
        assert_eq!(read_with(&archive, APP, From::After(u64::MAX), wish.clone()).len(), 0);
        let last = read_with(&archive, APP, From::Last(10), wish.clone());
        assert_eq!((last.len(), last[0].cursor), (10, 991));
        assert_eq!(read_with(&archive, APP, From::Last(5000), wish.clone()).len(), 1000);
    }
    let since = Time::from_unix_micros(900);
    assert_eq!(
        read_with(
            &archive,
            APP,
            From::Since(since),
            Wish { filter: LogFilter { since: Some(since), ..LogFilter::default() }, ..wish() }
        )
        .len(),
        101
    );
    let never = LogStream::App(AppId(8));
    assert_eq!(read(&archive, never), []);
    assert!(!dir.path().join("8").exists(), "looking writes nothing");
}

#[test]
fn a_batch_sent_again_changes_nothing_also_after_a_restart_and_many_segments() {
    let dir = tempfile::tempdir().unwrap();
    let first = archive(dir.path());
    first.append(&lines(APP, "quiet", [0, 5]), now()).unwrap();
    first.append(&lines(APP, "loud", 0..2000), now()).unwrap();
    for archive in [first, archive(dir.path())] {
        archive.append(&lines(APP, "quiet", [0, 5]), now()).unwrap();
        archive.append(&lines(APP, "loud", 1500..2000), now()).unwrap();
        assert_eq!(read(&archive, APP).len(), 2002);
    }
    let third = archive(dir.path());
    third.append(&lines(APP, "quiet", [4, 5, 6]), now()).unwrap();
    assert_eq!(read(&third, APP).last().unwrap().text, "quiet:6");
    assert_eq!(read(&third, APP).len(), 2003);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Batches of three origins come repeated, overlapping and late; the writer is replaced now
    /// and then, and sometimes dies within a write, whose batch is then sent again.
    #[test]
    fn whatever_is_repeated_reordered_or_cut_off_each_line_is_there_once_and_in_order(
        batches in prop::collection::vec((0..3usize, 0..60u64, 1..40u64, 0..4u8, any::<prop::sample::Index>()), 1..25)
    ) {
        let dir = tempfile::tempdir().unwrap();
        let mut archive = archive(dir.path());
        let mut expected = Vec::new();
        let mut wanted = [0; 3];
        for (origin, begin, count, fate, at) in batches {
            let name = ["a", "b", "c"][origin];
            let batch = lines(APP, name, begin..begin + count);
            let before = files(dir.path(), "7/app").last().map(|file| (file.clone(), fs::metadata(file).unwrap().len()));
            archive.append(&batch, now()).unwrap();
            if fate == 0 {
                // Dies in this write: nothing of it was acknowledged.
                if let Some((file, good)) = before {
                    for newer in files(dir.path(), "7/app").into_iter().filter(|newer| *newer > file) {
                        fs::remove_file(newer).unwrap();
                    }
                    let grown = fs::metadata(&file).unwrap().len() - good;
                    cut(&file, good + at.index(grown as usize + 1) as u64);
                }
            }
            if fate <= 1 {
                archive = self::archive(dir.path());
                archive.append(&batch, now()).unwrap();
            }
            let new = (begin..begin + count).filter(|position| *position >= wanted[origin]);
            expected.extend(new.map(|position| format!("{name}:{position}")));
            wanted[origin] = wanted[origin].max(begin + count);
        }
        let all = read(&archive, APP);
        assert_gapless(&all, 1);
        prop_assert_eq!(texts(&all), expected);
    }
}

#[test]
fn cut_off_at_any_byte_the_acknowledged_lines_are_there_and_the_rest_comes_again() {
    let dir = tempfile::tempdir().unwrap();
    archive(dir.path()).append(&lines(APP, "old", 0..3), now()).unwrap();
    let file = files(dir.path(), "7/app").remove(0);
    let acknowledged = fs::metadata(&file).unwrap().len();
    archive(dir.path()).append(&lines(APP, "new", 0..5), now()).unwrap();
    let whole = fs::read(&file).unwrap();
    for end in 0..=whole.len() {
        fs::write(&file, &whole[..end]).unwrap();
        let archive = archive(dir.path());
        if end as u64 >= acknowledged {
            assert!(texts(&read(&archive, APP)).starts_with(&["old:0", "old:1", "old:2"]), "cut at {end}");
        }
        archive.append(&lines(APP, "old", 0..3), now()).unwrap();
        archive.append(&lines(APP, "new", 0..5), now()).unwrap();
        let all = read(&archive, APP);
        assert_gapless(&all, 1);
        assert_eq!(all.len(), 8, "cut at {end}: {:?}", texts(&all));
        for extra in files(dir.path(), "7/app") {
            fs::remove_file(extra).unwrap();
        }
    }
}

#[test]
fn damage_in_the_middle_is_told_in_its_place_and_the_rest_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let archive = archive(dir.path());
    archive.append(&lines(APP, "a", 1..=500), now()).unwrap();
    let segments = files(dir.path(), "7/app");
    let mut bytes = fs::read(&segments[1]).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&segments[1], bytes).unwrap();
    fs::remove_file(&segments[3]).unwrap();
    let all = read(&archive, APP);
    let notices: Vec<&LogLine> = all.iter().filter(|line| line.source == "berth").collect();
    assert_eq!(notices.len(), 2, "{notices:?}");
    assert!(notices[0].text.contains("cannot be read any more"));
    assert_eq!(all.last().unwrap().cursor, 500);
    // Each missing line is counted by a notice.
    let told: u64 = notices.iter().map(|line| line.text.split(' ').next().unwrap().parse::<u64>().unwrap()).sum();
    assert_eq!(told + all.len() as u64 - 2, 500);
}

#[test]
fn a_full_app_loses_its_oldest_lines_and_the_reader_is_told_how_many() {
    let dir = tempfile::tempdir().unwrap();
    let archive = Archive::new(dir.path(), 200 << 10, 7, MIB);
    archive.append(&lines(DEPLOY, "build", 1..=100), now()).unwrap();
    for batch in 0..200 {
        archive.append(&lines(APP, "a", batch * 50..(batch + 1) * 50), now()).unwrap();
        assert!(size(dir.path()) <= 230 << 10, "{}", size(dir.path()));
    }
    let all = read(&archive, APP);
    assert_eq!(all[0].source, "berth");
    assert_eq!(
        all[0].text,
        format!(
            "{} earlier lines were dropped: an app's log is kept for 7 days and up to 0 MiB, less when the disk is nearly full",
            all[0].cursor
        )
    );
    assert_gapless(&all, all[0].cursor);
    assert_eq!(all.last().unwrap().cursor, 10_000);
    assert!(size(dir.path()) > 100 << 10, "no more than needed is dropped");
    let build = read(&archive, DEPLOY);
    assert_eq!((build.len(), build[0].cursor), (1, 100), "the oldest went first: {build:?}");
    // The whole is asked for only at the beginning.
    assert_eq!(read_with(&archive, APP, From::Last(10), wish()).len(), 10);
    assert_eq!(read_with(&archive, APP, From::Last(100_000), wish()), all);
}

#[test]
fn what_is_too_old_is_dropped_but_never_forgotten() {
    let dir = tempfile::tempdir().unwrap();
    let first = archive(dir.path());
    first.append(&lines(APP, "a", 1..=300), now()).unwrap();
    first.retain_app(AppId(7), now() + 6 * DAY).unwrap();
    assert_eq!(read(&first, APP).len(), 300);
    first.sweep(now() + 8 * DAY).unwrap();
    for archive in [first, archive(dir.path())] {
        assert_eq!(files(dir.path(), "7/app").len(), 1, "an empty one holds the cursor");
        let all = read(&archive, APP);
        assert_eq!((all.len(), all[0].cursor), (1, 300));
        assert!(all[0].text.starts_with("300 earlier lines were dropped"));
        archive.sweep(now() + 8 * DAY).unwrap();
    }
    let archive = archive(dir.path());
    archive.append(&lines(APP, "a", 290..=301), now()).unwrap();
    let all = read_with(&archive, APP, From::After(300), wish());
    assert_eq!((texts(&all), all[0].cursor), (vec!["a:301"], 301));
}

#[test]
fn a_deleted_app_is_gone_and_late_lines_do_not_bring_it_back() {
    let dir = tempfile::tempdir().unwrap();
    let first = archive(dir.path());
    first.append(&lines(APP, "a", 1..=300), now()).unwrap();
    first.append(&lines(DEPLOY, "b", 1..=3), now()).unwrap();
    let (_, tail) = first.open(APP, From::Last(1), now()).unwrap();
    first.delete(AppId(7)).unwrap();
    assert!(tail.has_changed().is_err(), "followers end");
    for archive in [first, archive(dir.path())] {
        archive.append(&lines(APP, "a", 301..=310), now()).unwrap();
        assert_eq!(read(&archive, APP), []);
        assert!(!dir.path().join("7").exists());
        archive.delete(AppId(7)).unwrap();
    }
    // A deletion that was cut off is finished by the next sweep.
    fs::create_dir_all(dir.path().join("7/app")).unwrap();
    archive(dir.path()).sweep(now()).unwrap();
    assert!(!dir.path().join("7").exists());
    archive(dir.path()).sweep(now() + 60 * DAY).unwrap();
    assert!(!dir.path().join("7.deleted").exists());
}

#[test]
fn a_follower_that_is_far_behind_is_moved_on_and_told() {
    let dir = tempfile::tempdir().unwrap();
    let archive = archive(dir.path());
    archive.append(&lines(APP, "a", 1..=1000), now()).unwrap();
    let all = read_with(&archive, APP, From::After(0), Wish { behind_max: Some(100), ..wish() });
    assert_eq!(all.len(), 51);
    assert!(all[0].text.starts_with("skipped 950 lines"), "{:?}", all[0]);
    assert_gapless(&all, 950);
}

#[test]
fn followers_of_a_stream_being_written_get_each_line_once() {
    let dir = tempfile::tempdir().unwrap();
    let archive = archive(dir.path());
    let deadline = std::time::Instant::now() + Duration::from_secs(60);
    std::thread::scope(|scope| {
        for origin in ["a", "b"] {
            let archive = &archive;
            scope.spawn(move || {
                for batch in 0..100 {
                    archive.append(&lines(APP, origin, batch * 10..batch * 10 + 10), now()).unwrap();
                }
            });
        }
        for _ in 0..3 {
            scope.spawn(|| {
                let (mut place, mut tail) = archive.open(APP, From::After(0), now()).unwrap();
                let mut all = Vec::new();
                while all.len() < 2000 {
                    assert!(std::time::Instant::now() < deadline, "only {} lines came", all.len());
                    let chunk = archive.read(APP, place, &wish(), now()).unwrap();
                    place = chunk.place;
                    all.extend(chunk.lines);
                    if chunk.ended && all.len() < 2000 {
                        futures_util::FutureExt::now_or_never(tail.changed());
                    }
                }
                assert_gapless(&all, 1);
                for origin in ["a", "b"] {
                    let of: Vec<&str> = texts(&all).into_iter().filter(|text| text.starts_with(origin)).collect();
                    assert_eq!(of, (0..1000).map(|n| format!("{origin}:{n}")).collect::<Vec<_>>());
                }
            });
        }
    });
}

#[test]
fn thousands_of_streams_hold_no_file_open_and_the_idle_are_forgotten() {
    let dir = tempfile::tempdir().unwrap();
    let archive = archive(dir.path());
    let open = || fs::read_dir("/proc/self/fd").unwrap().count();
    let before = open();
    let followed = archive.open(LogStream::App(AppId(9)), From::Last(1), now()).unwrap();
    for app in 1..=5000 {
        archive.append(&lines(LogStream::App(AppId(app)), "a", [1]), now()).unwrap();
    }
    assert!(open() <= before + 8, "{} files are open", open() - before);
    assert!(archive.apps_in_memory() <= 4097, "{}", archive.apps_in_memory());
    archive.forget(0);
    assert_eq!(archive.apps_in_memory(), 1, "the one that is followed");
    archive.append(&lines(LogStream::App(AppId(9)), "a", [1, 2]), now()).unwrap();
    assert!(followed.1.has_changed().unwrap());
    for app in [1, 9, 5000] {
        assert_eq!(read(&archive, LogStream::App(AppId(app))).len(), if app == 9 { 2 } else { 1 });
    }
}

/// On a file system of 1 MiB in a mount namespace of this thread, which ends with it.
#[test]
fn a_full_disk_refuses_lines_keeps_the_old_ones_and_goes_on_when_there_is_room() {
    use nix::mount::{MsFlags, mount};
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().to_owned();
    let tried = std::thread::spawn(move || {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).expect("this test needs root");
        let none = None::<&str>;
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
        mount(Some("tmpfs"), &root, Some("tmpfs"), MsFlags::empty(), Some("size=1m")).unwrap();
        fs::write(root.join("ballast"), vec![1; 800 << 10]).unwrap();
        let archive = Archive::new(&root, 64 * MIB, 7, 64 << 10);
        let (mut acknowledged, mut batches) = (0, 0u64..);
        let refused = loop {
            let begin = batches.next().unwrap() * 100;
            match archive.append(&lines(APP, "a", begin..begin + 100), now()) {
                Ok(()) => acknowledged = begin + 100,
                Err(error) => break error,
            }
        };
        assert!(refused.is_disk_full(), "{refused:?}");
        assert!(acknowledged > 1000);
        assert!(read(&archive, APP).len() as u64 >= acknowledged);
        fs::remove_file(root.join("ballast")).unwrap();
        archive.append(&lines(APP, "a", acknowledged..acknowledged + 100), now()).unwrap();
        let all = read(&archive, APP);
        assert_gapless(&all, 1);
        assert_eq!(all.len() as u64, acknowledged + 100);
    });
    tried.join().unwrap();
}

fn turn(towards: Towards, lines: usize, filter: &LogFilter) -> Turn {
    Turn { towards, lines, filter: filter.clone() }
}

/// Turns pages in one direction until none is left; all lines in order, and how often a look stopped early.
fn turned(archive: &Archive, mut towards: Towards, lines: usize, filter: &LogFilter) -> (Vec<LogLine>, usize) {
    let (mut all, mut stops) = (Vec::new(), 0);
    loop {
        let page = archive.page(APP, &turn(towards, lines, filter), now()).unwrap();
        assert!(page.lines.len() <= lines + 1, "no more than was asked for, and a word of ours");
        stops += usize::from(page.stopped.is_some());
        let back = matches!(towards, Towards::Older(_));
        if back {
            all = [page.lines, all].concat();
        } else {
            all.extend(page.lines);
        }
        towards = match (back, page.before, page.after) {
            (true, Some(before), _) => Towards::Older(Some(before)),
            (false, _, Some(after)) => Towards::Newer(after),
            _ => return (all, stops),
        };
    }
}

#[test]
fn pages_in_both_directions_show_each_line_once_and_the_filter_leaves_out_the_rest() {
    let dir = tempfile::tempdir().unwrap();
    let archive = archive(dir.path());
    for n in 0..20 {
        archive.append(&lines(APP, "one", n * 25..(n + 1) * 25), now()).unwrap();
    }
    let every = LogFilter::default();
    let whole = read(&archive, APP);
    assert!(fs::read_dir(dir.path().join("7/app")).unwrap().count() > 3, "several segments");
    for size in [1, 7, 100, 1000] {
        assert_eq!(turned(&archive, Towards::Older(None), size, &every).0, whole);
        assert_eq!(turned(&archive, Towards::Newer(0), size, &every).0, whole);
    }
    let some = LogFilter { text: "ONE:4".to_owned(), source: "web".to_owned(), ..LogFilter::default() };
    let wanted: Vec<LogLine> = whole.iter().filter(|line| line.text.starts_with("one:4")).cloned().collect();
    assert_eq!(wanted.len(), 111);
    for size in [1, 20, 200] {
        assert_eq!(turned(&archive, Towards::Older(None), size, &some).0, wanted);
        assert_eq!(turned(&archive, Towards::Newer(0), size, &some).0, wanted);
    }
    // Of the middle, each way goes on where the other came from.
    let page = archive.page(APP, &turn(Towards::Older(Some(200)), 10, &every), now()).unwrap();
    assert_eq!((page.before, page.after, page.end), (Some(190), Some(199), 500));
    let page = archive.page(APP, &turn(Towards::Newer(199), 10, &every), now()).unwrap();
    assert_eq!((page.lines[0].cursor, page.before, page.after), (200, Some(200), Some(209)));
    // A cursor of another life is no panic.
    for towards in [Towards::Older(Some(u64::MAX)), Towards::Newer(u64::MAX), Towards::Older(Some(0))] {
        archive.page(APP, &turn(towards, 10, &every), now()).unwrap();
    }
}

#[test]
fn a_search_reads_so_much_at_once_says_where_it_stopped_and_goes_on_there() {
    let dir = tempfile::tempdir().unwrap();
    let archive = Archive::new(dir.path(), 400 * MIB, 7, 4 * MIB);
    let long = "x".repeat(15 << 10);
    for n in 0..30 {
        let line = |position| NewLine {
            position,
            at: Time::from_unix_micros(position as i64),
            source: "web.1".to_owned(),
            text: if position == 3 { "needle".to_owned() } else { long.clone() },
        };
        let lines = (n * 50..(n + 1) * 50).map(line).collect();
        archive.append(&Lines { stream: APP, origin: "one".to_owned(), lines }, now()).unwrap();
    }
    let filter = LogFilter { text: "needle".to_owned(), ..LogFilter::default() };
    let page = archive.page(APP, &turn(Towards::Older(None), 100, &filter), now()).unwrap();
    assert!(page.lines.is_empty() && page.stopped.is_some() && page.before.is_some_and(|at| at > 100));
    let (found, stops) = turned(&archive, Towards::Older(None), 100, &filter);
    assert_eq!((texts(&found), stops), (vec!["needle"], 1));
    // A page of long lines is no more than a page.
    let page = archive.page(APP, &turn(Towards::Older(None), 1000, &LogFilter::default()), now()).unwrap();
    assert!((50..80).contains(&page.lines.len()), "{}", page.lines.len());
}

#[test]
fn what_was_dropped_is_said_at_the_end_of_the_history() {
    let dir = tempfile::tempdir().unwrap();
    let archive = Archive::new(dir.path(), 64 << 10, 7, 4 << 10);
    for n in 0..400 {
        archive.append(&lines(APP, "one", n * 10..(n + 1) * 10), now()).unwrap();
    }
    let (all, _) = turned(&archive, Towards::Older(None), 300, &LogFilter::default());
    assert!(all[0].source == "berth" && all[0].text.contains("earlier lines were dropped"), "{:?}", all[0]);
    assert_eq!(all[0].cursor + 1, all[1].cursor);
    assert_eq!(all.last().unwrap().cursor, 4000);
}
