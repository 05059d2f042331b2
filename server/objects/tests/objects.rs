//! The object store on a real folder.

#![allow(clippy::unwrap_used)]

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use domain::{ImageHash, SourceHash};
use futures_util::{Stream, StreamExt, TryStreamExt, stream};
use objects::{Objects, ObjectsError};
use sha2::{Digest, Sha256};

const BIG: u64 = 1 << 30;

fn hash_of(bytes: &[u8]) -> SourceHash {
    SourceHash::from_digest(Sha256::digest(bytes).into())
}

fn chunks(bytes: &[u8]) -> impl Stream<Item = io::Result<Bytes>> + Send + use<> {
    stream::iter(bytes.chunks(60_000).map(|chunk| Ok(Bytes::copy_from_slice(chunk))).collect::<Vec<_>>())
}

async fn read(objects: &Objects, hash: &SourceHash) -> Vec<u8> {
    let object = objects.get(hash).await.unwrap();
    let whole = object.stream.try_fold(Vec::new(), |mut whole, chunk| async move {
        whole.extend_from_slice(&chunk);
        Ok(whole)
    });
    let whole = whole.await.unwrap();
    assert_eq!(object.bytes, whole.len() as u64);
    whole
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut dirs = vec![dir.to_owned()];
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(dir).unwrap().map(Result::unwrap) {
            if entry.file_type().unwrap().is_dir() { dirs.push(entry.path()) } else { found.push(entry.path()) }
        }
    }
    found
}

async fn opened() -> (tempfile::TempDir, Objects) {
    let dir = tempfile::tempdir().unwrap();
    let objects = Objects::open(dir.path()).unwrap();
    (dir, objects)
}

#[tokio::test]
async fn what_was_put_is_got_whole_under_its_hash() {
    let (dir, objects) = opened().await;
    let big: Vec<u8> = (0..20_000_000u32).map(|n| (n / 7) as u8).collect();
    for bytes in [&b""[..], b"a small source", &big] {
        let stored = objects.put::<SourceHash, _>(chunks(bytes), None, BIG).await.unwrap();
        assert_eq!((&stored.hash, stored.bytes), (&hash_of(bytes), bytes.len() as u64));
        assert!(objects.exists(&stored.hash).await.unwrap());
        assert!(read(&objects, &stored.hash).await == bytes);
        assert!(dir.path().join("sources").join(stored.hash.as_str()).is_file());
    }
    assert_eq!(files(dir.path()).len(), 3);
}

#[tokio::test]
async fn a_kind_does_not_see_the_other_ones_objects() {
    let (_dir, objects) = opened().await;
    let stored = objects.put::<SourceHash, _>(chunks(b"x"), None, BIG).await.unwrap();
    let image: ImageHash = stored.hash.as_str().parse().unwrap();
    assert!(!objects.exists(&image).await.unwrap());
}

#[tokio::test]
async fn a_missing_object_is_told_as_missing_and_deleting_it_is_no_error() {
    let (_dir, objects) = opened().await;
    let hash = hash_of(b"never stored");
    assert!(!objects.exists(&hash).await.unwrap());
    let missing = objects.get(&hash).await.err().unwrap();
    assert!(matches!(missing, ObjectsError::Missing { .. }), "{missing:?}");
    assert!(missing.to_string().contains(hash.as_str()));
    objects.delete(&hash).await.unwrap();
}

#[tokio::test]
async fn a_deleted_object_is_gone() {
    let (dir, objects) = opened().await;
    let stored = objects.put::<SourceHash, _>(chunks(b"x"), None, BIG).await.unwrap();
    objects.delete(&stored.hash).await.unwrap();
    assert!(!objects.exists(&stored.hash).await.unwrap());
    assert_eq!(files(dir.path()), Vec::<PathBuf>::new());
}

#[tokio::test]
async fn a_wrong_hash_leaves_nothing() {
    let (dir, objects) = opened().await;
    let expected = hash_of(b"what was announced");
    let wrong = objects.put(chunks(b"what came"), Some(&expected), BIG).await.unwrap_err();
    assert!(matches!(wrong, ObjectsError::WrongHash { .. }), "{wrong:?}");
    assert_eq!(files(dir.path()), Vec::<PathBuf>::new());
    objects.put(chunks(b"what was announced"), Some(&expected), BIG).await.unwrap();
    assert!(objects.exists(&expected).await.unwrap());
}

#[tokio::test]
async fn what_is_too_big_leaves_nothing_and_the_limit_itself_fits() {
    let (dir, objects) = opened().await;
    let bytes = vec![1u8; 9_000_000];
    let big = objects.put::<SourceHash, _>(chunks(&bytes), None, bytes.len() as u64 - 1).await.unwrap_err();
    assert!(matches!(big, ObjectsError::TooBig { .. }), "{big:?}");
    assert_eq!(files(dir.path()), Vec::<PathBuf>::new());
    objects.put::<SourceHash, _>(chunks(&bytes), None, bytes.len() as u64).await.unwrap();
}

#[tokio::test]
async fn a_source_that_breaks_off_leaves_nothing() {
    let (dir, objects) = opened().await;
    let broken = chunks(&vec![1u8; 9_000_000]).chain(stream::iter([Err(io::Error::other("the client is gone"))]));
    let error = objects.put::<SourceHash, _>(broken, None, BIG).await.unwrap_err();
    assert!(matches!(error, ObjectsError::Source { bytes: 9_000_000, .. }), "{error:?}");
    assert_eq!(files(dir.path()), Vec::<PathBuf>::new());
}

#[tokio::test]
async fn a_put_that_is_dropped_half_way_leaves_nothing() {
    let (dir, objects) = opened().await;
    let endless = chunks(&vec![1u8; 9_000_000]).chain(stream::pending());
    let put = objects.put::<SourceHash, _>(endless, None, BIG);
    let _ = tokio::time::timeout(Duration::from_millis(300), put).await.unwrap_err();
    let deadline = std::time::Instant::now() + Duration::from_secs(10);
    while !files(dir.path()).is_empty() {
        assert!(std::time::Instant::now() < deadline, "left: {:?}", files(dir.path()));
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn the_same_bytes_put_by_many_at_once_are_one_object() {
    let (dir, objects) = opened().await;
    let bytes = vec![5u8; 3_000_000];
    let puts = (0..8).map(|_| objects.put::<SourceHash, _>(chunks(&bytes), None, BIG));
    for stored in futures_util::future::join_all(puts).await {
        assert_eq!(stored.unwrap().hash, hash_of(&bytes));
    }
    assert_eq!(files(dir.path()).len(), 1);
    assert!(read(&objects, &hash_of(&bytes)).await == bytes);
}

#[tokio::test]
async fn left_overs_of_yesterday_are_removed_and_those_of_now_are_not() {
    let (dir, objects) = opened().await;
    objects.put::<SourceHash, _>(chunks(b"x"), None, BIG).await.unwrap();
    let incoming = dir.path().join("sources/incoming");
    for (name, age_h) in [("old#1", 25), ("old", 25), ("new#1", 1)] {
        let file = std::fs::File::create(incoming.join(name)).unwrap();
        file.set_modified(SystemTime::now() - Duration::from_secs(age_h * 3600)).unwrap();
    }
    objects.sweep().await;
    assert_eq!(files(&incoming), [incoming.join("new#1")]);
    assert!(read(&objects, &hash_of(b"x")).await == b"x");
}

#[tokio::test]
async fn a_folder_that_is_not_there_is_named() {
    let error = Objects::open("/nonexistent/objects").err().unwrap();
    assert!(error.to_string().contains("/nonexistent/objects"));
}

/// On a file system of 4 MiB in a mount namespace of this thread, which ends with it.
#[test]
fn a_full_disk_is_told_as_such_and_leaves_nothing() {
    use nix::mount::{MsFlags, mount};
    use nix::sched::{CloneFlags, unshare};
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().to_owned();
    let tried = std::thread::spawn(move || {
        unshare(CloneFlags::CLONE_NEWNS).expect("this test needs root");
        let none = None::<&str>;
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
        mount(Some("tmpfs"), &root, Some("tmpfs"), MsFlags::empty(), Some("size=4m")).unwrap();
        // Its blocking threads are made by this thread, so they see the same mounts.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let full = runtime.block_on(async {
            let objects = Objects::open(&root).unwrap();
            objects.put::<SourceHash, _>(chunks(&vec![1u8; 9_000_000]), None, BIG).await.unwrap_err()
        });
        drop(runtime);
        (full, files(&root))
    });
    let (full, left) = tried.join().unwrap();
    assert!(matches!(full, ObjectsError::DiskFull { .. }), "{full:?}");
    assert!(full.hint().unwrap().contains("free space"));
    assert_eq!(left, Vec::<PathBuf>::new());
}
