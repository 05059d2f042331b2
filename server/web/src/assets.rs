//! The site's files: in memory, under an address that holds their hash, so that a browser keeps
//! them for ever and a new build has new addresses.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use axum::body::Body;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use sha2::{Digest, Sha256};

use crate::state::Shared;

/// A file of the site.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asset {
    /// Its name, without a folder: `berth.css`.
    pub path: String,
    pub content_type: String,
    pub bytes: &'static [u8],
}

/// As small as it gets within a second of a background thread, once a start.
const BROTLI_QUALITY: i32 = 9;
const BROTLI_WINDOW: i32 = 22;

pub struct Assets {
    files: BTreeMap<String, File>,
    base: String,
}

struct File {
    content_type: HeaderValue,
    bytes: &'static [u8],
    /// Set when it was compressed, and is smaller by it.
    brotli: Arc<OnceLock<Vec<u8>>>,
}

impl Assets {
    pub fn new(assets: Vec<Asset>) -> Self {
        let mut hash = Sha256::new();
        let mut files = BTreeMap::new();
        for asset in assets {
            hash.update(asset.path.as_bytes());
            hash.update(Sha256::digest(asset.bytes));
            let content_type = HeaderValue::from_str(&asset.content_type)
                .unwrap_or(HeaderValue::from_static("application/octet-stream"));
            files.insert(asset.path, File { content_type, bytes: asset.bytes, brotli: Arc::default() });
        }
        let base = format!("/assets/{}", &hex::encode(hash.finalize())[..12]);
        let assets = Self { files, base };
        assets.compress();
        assets
    }

    /// `/assets/<hash of all>`
    pub fn base(&self) -> &str {
        &self.base
    }

    pub fn has(&self, name: &str) -> bool {
        self.files.contains_key(name)
    }

    /// In the background: until it is done, files go out as they are.
    fn compress(&self) {
        let files: Vec<_> = self.files.values().map(|file| (file.bytes, file.brotli.clone())).collect();
        tokio::task::spawn_blocking(move || {
            for (bytes, brotli) in files {
                let params = brotli::enc::BrotliEncoderParams {
                    quality: BROTLI_QUALITY,
                    lgwin: BROTLI_WINDOW,
                    size_hint: bytes.len(),
                    ..Default::default()
                };
                let mut small = Vec::new();
                let done = brotli::BrotliCompress(&mut &bytes[..], &mut small, &params).is_ok();
                if done && small.len() < bytes.len() {
                    let _ = brotli.set(small);
                }
            }
        });
    }
}

pub async fn file(
    State(state): State<Shared>,
    Path((hash, name)): Path<(String, String)>,
    headers: HeaderMap,
) -> Response {
    let current = state.assets.base.strip_prefix("/assets/") == Some(hash.as_str());
    // A page of the build before asks for what is here now; it must not keep that under the old address.
    answer(&state, &name, current, &headers)
}

/// Browsers ask for it unasked.
pub async fn favicon(State(state): State<Shared>, headers: HeaderMap) -> Response {
    answer(&state, "favicon.svg", false, &headers)
}

fn answer(state: &Shared, name: &str, keep: bool, headers: &HeaderMap) -> Response {
    let Some(file) = state.assets.files.get(name) else { return StatusCode::NOT_FOUND.into_response() };
    let accepts = headers.get(header::ACCEPT_ENCODING).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let brotli = file.brotli.get().filter(|_| accepts.split(',').any(|coding| coding.trim().starts_with("br")));
    let body = match brotli {
        Some(small) => Body::from(small.clone()),
        None => Body::from(file.bytes),
    };
    let mut response = body.into_response();
    let out = response.headers_mut();
    out.insert(header::CONTENT_TYPE, file.content_type.clone());
    out.insert(header::VARY, HeaderValue::from_static("accept-encoding"));
    if brotli.is_some() {
        out.insert(header::CONTENT_ENCODING, HeaderValue::from_static("br"));
    }
    let cache = if keep { "public, max-age=31536000, immutable" } else { "no-cache" };
    out.insert(header::CACHE_CONTROL, HeaderValue::from_static(cache));
    response
}
