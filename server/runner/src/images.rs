//! Images on this server: fetched once, hashed by ourselves, mounted once, shared by all instances.
//!
//! A mounted image is a file that only root can write and whose hash was computed here; the kernel
//! trusts the file systems that it mounts.

use std::collections::{HashMap, HashSet};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use domain::ImageHash;
use futures_util::StreamExt;
use link::{Client, LinkError};
use plan::Room;
use plan::collect::{File, Gone, Use};
use sha2::{Digest, Sha256};
use tokio::io::AsyncWriteExt;
use tokio::sync::{Mutex, OwnedMutexGuard};

use crate::disk::Disk;
use crate::mount::{self, Access};
use crate::sandbox::make_dir;

const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// Between two pieces of an image.
const PIECE_TIMEOUT: Duration = Duration::from_secs(60);
const IMAGE_BYTES_MAX: u64 = 4 << 30;
/// A file that nothing names yet may be about to be used.
const KEPT_AT_LEAST: Duration = Duration::from_secs(3600);

#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    #[error("could not fetch image {image}")]
    Fetch {
        image: ImageHash,
        #[source]
        cause: LinkError,
    },
    #[error("image {image} is not fetched: {why}")]
    NoRoom { image: ImageHash, why: String },
    #[error("image {image} did not arrive: {why}")]
    Content { image: ImageHash, why: String },
    #[error("could not {doing} image {image}")]
    Io {
        doing: &'static str,
        image: ImageHash,
        #[source]
        cause: io::Error,
    },
}

#[derive(Clone)]
pub struct Images {
    inner: Arc<Inner>,
}

struct Inner {
    /// The files, on disk.
    files: PathBuf,
    /// The mounts, on tmpfs.
    mounts: PathBuf,
    client: Client,
    disk: Disk,
    /// How many use each. Fetching and mounting happen under a lock of the image's own.
    used: Mutex<HashMap<ImageHash, Arc<Mutex<u32>>>>,
}

/// A mounted image in use; give it back by [`Images::release`].
#[derive(Debug, Clone)]
pub struct Mounted {
    pub image: ImageHash,
    pub path: PathBuf,
}

/// A mount that nobody uses yet. Whoever asked may be gone before it is there: then it goes, under the image's lock.
struct Fresh {
    path: PathBuf,
    count: Option<OwnedMutexGuard<u32>>,
}

impl Fresh {
    fn taken(mut self) -> io::Result<OwnedMutexGuard<u32>> {
        self.count.take().ok_or_else(|| io::Error::other("it was taken before"))
    }
}

impl Drop for Fresh {
    fn drop(&mut self) {
        if self.count.is_none() {
            return;
        }
        if let Err(e) = mount::unmount(&self.path).and_then(|()| std::fs::remove_dir(&self.path)) {
            tracing::error!(path = %self.path.display(), "could not unmount an image that nobody waits for: {e}");
        }
    }
}

impl Images {
    pub fn new(data_dir: &Path, mounts: PathBuf, client: Client, disk: Disk) -> io::Result<Self> {
        let files = data_dir.join("images");
        make_dir(&files, 0o700)?;
        // What a power cut left half-written.
        for entry in std::fs::read_dir(&files)?.flatten() {
            if entry.path().extension().is_some() {
                std::fs::remove_file(entry.path())?;
            }
        }
        Ok(Self { inner: Arc::new(Inner { files, mounts, client, disk, used: Mutex::new(HashMap::new()) }) })
    }

    /// Unmounts what neither an adopted instance nor anything else uses: mounted by a runner that was killed.
    pub async fn unmount_except(&self, kept: &[ImageHash]) -> io::Result<()> {
        for entry in std::fs::read_dir(&self.inner.mounts)?.flatten() {
            let Ok(image) = entry.file_name().to_string_lossy().parse::<ImageHash>() else { continue };
            let count = self.count(&image).await;
            let count = count.lock().await;
            if *count == 0 && !kept.contains(&image) {
                if mount::is_mounted(&entry.path())? {
                    mount::unmount(&entry.path())?;
                }
                std::fs::remove_dir(entry.path())?;
            }
        }
        Ok(())
    }

    async fn count(&self, image: &ImageHash) -> Arc<Mutex<u32>> {
        Arc::clone(self.inner.used.lock().await.entry(image.clone()).or_default())
    }

    /// Fetches and mounts the image where that is not done yet. Also how an adopted instance counts.
    pub async fn acquire(&self, image: &ImageHash) -> Result<Mounted, ImageError> {
        let mut count = self.count(image).await.lock_owned().await;
        let path = self.inner.mounts.join(image.as_str());
        let failed = |doing| move |cause| ImageError::Io { doing, image: image.clone(), cause };
        if !mount::is_mounted(&path).map_err(failed("look for"))? {
            let file = self.inner.files.join(image.as_str());
            if !file.exists() {
                self.fetch(image, &file).await?;
            }
            make_dir(&path, 0o711).map_err(failed("mount"))?;
            let target = path.clone();
            // Reading the first blocks may wait for the disk.
            let mount = move || {
                mount::mount_file(&file, &target, "squashfs", Access::ReadOnly, None)?;
                Ok(Fresh { path: target, count: Some(count) })
            };
            let mounted: io::Result<Fresh> =
                tokio::task::spawn_blocking(mount).await.map_err(|e| failed("mount")(e.into()))?;
            count = mounted.and_then(Fresh::taken).map_err(failed("mount"))?;
        }
        *count += 1;
        Ok(Mounted { image: image.clone(), path })
    }

    /// The last one to go unmounts it.
    pub async fn release(&self, mounted: &Mounted) -> Result<(), ImageError> {
        let count = self.count(&mounted.image).await;
        let mut count = count.lock().await;
        *count = count.saturating_sub(1);
        if *count == 0 {
            let failed = |cause| ImageError::Io { doing: "unmount", image: mounted.image.clone(), cause };
            mount::unmount(&mounted.path).map_err(failed)?;
            std::fs::remove_dir(&mounted.path).map_err(failed)?;
            // From when on it is idle.
            let file = std::fs::File::open(self.inner.files.join(mounted.image.as_str()));
            if let Err(e) = file.and_then(|file| file.set_modified(SystemTime::now())) {
                tracing::warn!(image = %mounted.image, "could not note when an image was last used: {e}");
            }
        }
        Ok(())
    }

    async fn fetch(&self, image: &ImageHash, file: &Path) -> Result<(), ImageError> {
        let failed = |cause| ImageError::Io { doing: "write", image: image.clone(), cause };
        let part = file.with_extension("part");
        if let Some(why) = self.inner.disk.refuses() {
            return Err(ImageError::NoRoom { image: image.clone(), why });
        }
        let fetched = self.fetch_to(image, &part).await;
        if fetched.is_err() {
            // It may be why the disk is full.
            let _ = std::fs::remove_file(&part);
        }
        fetched?;
        std::fs::rename(&part, file).map_err(failed)
    }

    async fn fetch_to(&self, image: &ImageHash, part: &Path) -> Result<(), ImageError> {
        let content = |why: String| ImageError::Content { image: image.clone(), why };
        let failed = |cause| ImageError::Io { doing: "write", image: image.clone(), cause };
        let fetch = |cause| ImageError::Fetch { image: image.clone(), cause };
        let path = format!("/v1/objects/images/{image}");
        let mut stream = self.inner.client.get_stream(&path, HEAD_TIMEOUT).await.map_err(fetch)?;
        let mut options = std::fs::OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o600);
        let mut out = tokio::fs::File::from_std(options.open(part).map_err(failed)?);
        let mut hash = Sha256::new();
        let mut bytes: u64 = 0;
        loop {
            let piece = tokio::time::timeout(PIECE_TIMEOUT, stream.next())
                .await
                .map_err(|_| content(format!("nothing came for {PIECE_TIMEOUT:?}")))?;
            let Some(piece) = piece else { break };
            let piece = piece.map_err(fetch)?;
            bytes += piece.len() as u64;
            if bytes > IMAGE_BYTES_MAX {
                return Err(content(format!("it is larger than {IMAGE_BYTES_MAX} bytes")));
            }
            hash.update(&piece);
            out.write_all(&piece).await.map_err(failed)?;
        }
        out.sync_all().await.map_err(failed)?;
        let got = ImageHash::from_digest(hash.finalize().into());
        if got != *image {
            return Err(content(format!("what came has the hash {got}")));
        }
        Ok(())
    }

    /// Removes files by rule; never one that an instance uses or `kept` names.
    pub async fn collect(&self, kept: &[ImageHash], budget: u64, room: Room, now: SystemTime) -> io::Result<()> {
        let kept: HashSet<&ImageHash> = kept.iter().collect();
        let mut files = Vec::new();
        for entry in std::fs::read_dir(&self.inner.files)?.flatten() {
            let Ok(image) = entry.file_name().to_string_lossy().parse::<ImageHash>() else { continue };
            let meta = entry.metadata()?;
            // Set anew at each use's end.
            let idle = now.duration_since(meta.modified()?).unwrap_or_default();
            let is_mounted = mount::is_mounted(&self.inner.mounts.join(image.as_str()))?;
            let use_ =
                if kept.contains(&image) || is_mounted || idle < KEPT_AT_LEAST { Use::Now } else { Use::Perhaps };
            files.push(File { what: image, bytes: meta.len(), idle, use_ });
        }
        for Gone { what, reason } in plan::collect::files(&files, budget, Duration::MAX, room) {
            let count = self.count(&what).await;
            let count = count.lock().await;
            if *count == 0 && !mount::is_mounted(&self.inner.mounts.join(what.as_str()))? {
                std::fs::remove_file(self.inner.files.join(what.as_str()))?;
                tracing::info!(image = %what, "deleted an image from this server: {reason}");
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Who waits for a mount may be told to stop at any moment.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_mount_that_nobody_waits_for_any_more_goes() {
        let dir = tempfile::tempdir().unwrap();
        let (data, mounts, tree) = (dir.path().join("data"), dir.path().join("mounts"), dir.path().join("tree"));
        for made in [&data, &mounts, &tree] {
            std::fs::create_dir(made).unwrap();
        }
        std::fs::write(tree.join("file"), "content").unwrap();
        let client = Client::new(dir.path().join("nobody.sock"), domain::Secret::new(String::new()));
        let images = Images::new(&data, mounts.clone(), client, Disk::new(&data, Some(0))).unwrap();
        let image: ImageHash = "a".repeat(64).parse().unwrap();
        let made = std::process::Command::new("mksquashfs")
            .args([&tree, &data.join("images").join(image.as_str())])
            .args(["-no-progress", "-quiet"])
            .status();
        assert!(made.unwrap().success());
        for micros in 0..60 {
            let given_up = tokio::time::timeout(Duration::from_micros(micros * 20), images.acquire(&image)).await;
            if let Ok(mounted) = given_up {
                images.release(&mounted.unwrap()).await.unwrap();
            }
            // Its lock is free when it is through.
            let count = images.count(&image).await;
            let users = *count.lock().await;
            let left = std::fs::read_dir(&mounts).unwrap().flatten().any(|m| mount::is_mounted(&m.path()).unwrap());
            if left {
                mount::unmount(&mounts.join(image.as_str())).unwrap();
            }
            assert!(users == 0 && !left, "{users} use it, mounted: {left}");
        }
    }
}
