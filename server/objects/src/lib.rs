//! The object store: what must outlive any one server, under the hash of its content.
//!
//! Three kinds lie here, each typed by its hash: `sources` (the tar of a committed tree), `bundles`
//! (what a push brought to an app's repository) and `images` (a squashfs file). The backend is a folder; what it is, only [`Objects::open`] knows.
//!
//! Knows: bytes and their hashes. Never: shows an object that is not whole and is not what its
//! name says, overwrites one with other content, or decides what may be deleted.
//!
//! An object is written as `KIND/incoming/RANDOM`, hashed on the way, brought to the disk, and
//! only then renamed to `KIND/HASH`. So a kind's folder needs one writer, readers of other UIDs
//! need read access only (the process's umask decides it), and two who store the same bytes at
//! the same time both succeed.
//!
//! ```no_run
//! # async fn example(tar: impl futures_util::Stream<Item = std::io::Result<bytes::Bytes>> + Send) -> Result<(), objects::ObjectsError> {
//! let objects = objects::Objects::open("/var/lib/berth/objects")?;
//! let stored = objects.put::<domain::SourceHash, _>(tar, None, 512 << 20).await?;
//! let object = objects.get(&stored.hash).await?;
//! assert_eq!(object.bytes, stored.bytes);
//! # Ok(()) }
//! ```

mod error;
mod folder;

use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use domain::wire::Space;
use domain::{BundleHash, ImageHash, SourceHash};
use futures_util::stream::BoxStream;
use futures_util::{Stream, StreamExt, TryStreamExt};
use object_store::{MultipartUpload, ObjectStore, ObjectStoreExt, PutPayload, PutPayloadMut};
use sha2::{Digest, Sha256};
use tokio::sync::Mutex;
use tokio::time::timeout;

pub use self::error::ObjectsError;

/// How much is gathered before it is written: the least that S3 takes as a part is 5 MiB.
const PART_BYTES: usize = 8 << 20;
/// Of one call to the store: a part, a look, a rename. A disk under load takes seconds, a store
/// on the network may repeat a request inside.
const CALL_TIMEOUT: Duration = Duration::from_secs(60);
/// How long a stream that is being stored may stand still.
const STALL_TIMEOUT: Duration = Duration::from_secs(120);

mod sealed {
    pub trait Sealed {}
    impl Sealed for domain::SourceHash {}
    impl Sealed for domain::BundleHash {}
    impl Sealed for domain::ImageHash {}
}

/// A kind of object, by the type of its hash.
pub trait Kind: sealed::Sealed + Clone + PartialEq + std::fmt::Display + Send + Sync {
    /// The folder, and the word in a path.
    const NAME: &'static str;
    fn from_digest(digest: [u8; 32]) -> Self;
}

impl Kind for SourceHash {
    const NAME: &'static str = "sources";
    fn from_digest(digest: [u8; 32]) -> Self {
        Self::from_digest(digest)
    }
}

impl Kind for BundleHash {
    const NAME: &'static str = "bundles";
    fn from_digest(digest: [u8; 32]) -> Self {
        Self::from_digest(digest)
    }
}

impl Kind for ImageHash {
    const NAME: &'static str = "images";
    fn from_digest(digest: [u8; 32]) -> Self {
        Self::from_digest(digest)
    }
}

/// What was stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored<H> {
    pub hash: H,
    pub bytes: u64,
}

/// An object being read.
pub struct Object {
    pub bytes: u64,
    pub stream: BoxStream<'static, std::io::Result<Bytes>>,
}

/// An object that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed<H> {
    pub hash: H,
    pub bytes: u64,
    /// Since it was last stored.
    pub age: Duration,
}

/// A handle; cheap to clone.
#[derive(Clone)]
pub struct Objects {
    store: Arc<dyn ObjectStore>,
    dir: PathBuf,
    /// Of its disk, what [`Objects::put`] leaves free.
    reserve_bytes: Reserve,
    /// Held while an object gets its name, and while an old one is looked at and deleted: what was just stored
    /// once more is not old.
    naming: Arc<Mutex<()>>,
}

/// What must stay free on the disk of the store.
#[derive(Debug, Clone, Copy)]
pub enum Reserve {
    Nothing,
    Bytes(u64),
    /// By the size of the disk.
    Of(fn(u64) -> u64),
}

impl Objects {
    /// Opens the store in the folder `dir`, which must exist.
    pub fn open(dir: impl AsRef<Path>) -> Result<Self, ObjectsError> {
        let dir = dir.as_ref().to_owned();
        let store = Arc::new(folder::open(&dir)?);
        Ok(Self { store, dir, reserve_bytes: Reserve::Nothing, naming: Arc::default() })
    }

    /// Removes what was left of writes that were cut off more than a day ago. Best effort.
    pub async fn sweep(&self) {
        folder::sweep(&self.dir, &[SourceHash::NAME, BundleHash::NAME, ImageHash::NAME]).await;
    }

    /// The same store; what would leave less than this free is refused.
    pub fn leaves(self, reserve_bytes: Reserve) -> Self {
        Self { reserve_bytes, ..self }
    }

    /// Room on its disk.
    pub async fn space(&self) -> Result<Space, ObjectsError> {
        let failed = |cause| ObjectsError::Open { dir: self.dir.clone(), cause };
        let dir = self.dir.clone();
        let found = tokio::task::spawn_blocking(move || nix::sys::statvfs::statvfs(&dir));
        let found = found.await.map_err(|cause| failed(std::io::Error::other(cause)))?;
        let found = found.map_err(|cause| failed(cause.into()))?;
        let block = found.fragment_size();
        let bytes = found.blocks().saturating_mul(block);
        let reserve_bytes = match self.reserve_bytes {
            Reserve::Nothing => 0,
            Reserve::Bytes(bytes) => bytes,
            Reserve::Of(rule) => rule(bytes),
        };
        Ok(Space { bytes, free_bytes: found.blocks_available().saturating_mul(block), reserve_bytes })
    }

    async fn room(&self, kind: &'static str) -> Result<(), ObjectsError> {
        let Space { free_bytes, reserve_bytes, .. } = self.space().await?;
        if free_bytes < reserve_bytes {
            return Err(ObjectsError::Short { kind, free_bytes, reserve_bytes });
        }
        Ok(())
    }

    /// Stores a stream of at most `bytes_max` bytes under its hash; when this returns, it is on
    /// the disk. With `expected`, a stream that is not that object is refused. Whatever fails,
    /// also when the call is dropped half-way, nothing becomes visible.
    pub async fn put<H: Kind, E>(
        &self,
        bytes: impl Stream<Item = Result<Bytes, E>> + Send,
        expected: Option<&H>,
        bytes_max: u64,
    ) -> Result<Stored<H>, ObjectsError>
    where
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let incoming = path::<H>(&format!("incoming/{:032x}", rand::random::<u128>()));
        let what = || match expected {
            Some(hash) => format!("{}/{hash}", H::NAME),
            None => format!("{}/(new)", H::NAME),
        };
        self.room(H::NAME).await?;
        let mut upload = call("beginning to store", what, self.store.put_multipart(&incoming)).await?;
        let stored = match self.fill::<H, E>(upload.as_mut(), bytes, expected, bytes_max).await {
            Ok(stored) => stored,
            Err(error) => {
                // Also when this fails nothing is visible: a sweep removes the rest.
                if let Err(cause) = timeout(CALL_TIMEOUT, upload.abort()).await {
                    tracing::warn!(error = %cause, "a half-written object of {} is left until the next start", H::NAME);
                }
                return Err(error);
            }
        };
        call("finishing", what, upload.complete()).await?;
        let _naming = self.naming.lock().await;
        let named = call("naming", what, self.store.rename(&incoming, &path::<H>(&stored.hash.to_string()))).await;
        if named.is_err() {
            let _ = timeout(CALL_TIMEOUT, self.store.delete(&incoming)).await;
        }
        named.map(|()| stored)
    }

    /// Writes part by part, one at a time, so that a call holds one part in memory.
    async fn fill<H: Kind, E>(
        &self,
        upload: &mut dyn MultipartUpload,
        bytes: impl Stream<Item = Result<Bytes, E>> + Send,
        expected: Option<&H>,
        bytes_max: u64,
    ) -> Result<Stored<H>, ObjectsError>
    where
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let mut bytes = pin!(bytes);
        let (mut digest, mut size) = (Sha256::new(), 0u64);
        let mut part = PutPayloadMut::new();
        loop {
            let next = match timeout(STALL_TIMEOUT, bytes.next()).await {
                Ok(next) => next,
                Err(_) => return Err(ObjectsError::Stalled { kind: H::NAME, after: STALL_TIMEOUT, bytes: size }),
            };
            let Some(chunk) = next else { break };
            let chunk =
                chunk.map_err(|cause| ObjectsError::Source { kind: H::NAME, bytes: size, cause: cause.into() })?;
            size = size.saturating_add(chunk.len() as u64);
            if size > bytes_max {
                return Err(ObjectsError::TooBig { kind: H::NAME, bytes_max });
            }
            digest.update(&chunk);
            part.push(chunk);
            if part.content_length() >= PART_BYTES {
                self.room(H::NAME).await?;
                write::<H>(upload, std::mem::take(&mut part).freeze()).await?;
            }
        }
        if !part.is_empty() {
            write::<H>(upload, part.freeze()).await?;
        }
        let hash = H::from_digest(digest.finalize().into());
        match expected {
            Some(expected) if *expected != hash => {
                Err(ObjectsError::WrongHash { kind: H::NAME, expected: expected.to_string(), found: hash.to_string() })
            }
            _ => Ok(Stored { hash, bytes: size }),
        }
    }

    /// Opens an object; a missing one is [`ObjectsError::Missing`].
    pub async fn get<H: Kind>(&self, hash: &H) -> Result<Object, ObjectsError> {
        let object = call("reading", || name(hash), self.store.get(&path::<H>(&hash.to_string()))).await?;
        let (bytes, name) = (object.meta.size, name(hash));
        let stream = object.into_stream().map_err(move |cause| {
            std::io::Error::other(ObjectsError::Store { doing: "reading", object: name.clone(), cause })
        });
        Ok(Object { bytes, stream: stream.boxed() })
    }

    pub async fn exists<H: Kind>(&self, hash: &H) -> Result<bool, ObjectsError> {
        match call("looking for", || name(hash), self.store.head(&path::<H>(&hash.to_string()))).await {
            Ok(_) => Ok(true),
            Err(ObjectsError::Missing { .. }) => Ok(false),
            Err(other) => Err(other),
        }
    }

    /// All objects of a kind, in no order; what is still being written is none.
    pub async fn list<H: Kind + std::str::FromStr>(&self) -> Result<Vec<Listed<H>>, ObjectsError> {
        let folder = object_store::path::Path::from(H::NAME);
        let found = call("listing", || H::NAME.to_owned(), self.store.list_with_delimiter(Some(&folder))).await;
        let found = match found {
            Err(ObjectsError::Missing { .. }) => return Ok(Vec::new()),
            found => found?,
        };
        let now = SystemTime::now();
        let listed = |meta: object_store::ObjectMeta| {
            let hash = meta.location.filename()?.parse().ok()?;
            let age = now.duration_since(SystemTime::from(meta.last_modified)).unwrap_or_default();
            Some(Listed { hash, bytes: meta.size, age })
        };
        Ok(found.objects.into_iter().filter_map(listed).collect())
    }

    /// Deletes an object that was last stored that long ago; whether it did. To be called in the process that
    /// stores the kind: elsewhere it could not tell what is being stored once more.
    pub async fn delete_older<H: Kind>(&self, hash: &H, age: Duration) -> Result<bool, ObjectsError> {
        let _naming = self.naming.lock().await;
        let found = call("looking for", || name(hash), self.store.head(&path::<H>(&hash.to_string()))).await;
        let found = match found {
            Err(ObjectsError::Missing { .. }) => return Ok(false),
            found => found?,
        };
        let stored = SystemTime::from(found.last_modified);
        if SystemTime::now().duration_since(stored).unwrap_or_default() < age {
            return Ok(false);
        }
        self.delete(hash).await.map(|()| true)
    }

    /// Deletes an object; one that is not there is deleted already.
    pub async fn delete<H: Kind>(&self, hash: &H) -> Result<(), ObjectsError> {
        match call("deleting", || name(hash), self.store.delete(&path::<H>(&hash.to_string()))).await {
            Err(ObjectsError::Missing { .. }) => Ok(()),
            other => other,
        }
    }
}

fn name<H: Kind>(hash: &H) -> String {
    format!("{}/{hash}", H::NAME)
}

fn path<H: Kind>(below: &str) -> object_store::path::Path {
    object_store::path::Path::from(format!("{}/{below}", H::NAME))
}

async fn write<H: Kind>(upload: &mut dyn MultipartUpload, part: PutPayload) -> Result<(), ObjectsError> {
    call("writing", || format!("{}/(new)", H::NAME), upload.put_part(part)).await
}

async fn call<T>(
    doing: &'static str,
    object: impl Fn() -> String,
    work: impl Future<Output = object_store::Result<T>>,
) -> Result<T, ObjectsError> {
    match timeout(CALL_TIMEOUT, work).await {
        Ok(done) => done.map_err(|cause| ObjectsError::of(doing, object(), cause)),
        Err(_) => Err(ObjectsError::Timeout { doing, object: object(), after: CALL_TIMEOUT }),
    }
}
