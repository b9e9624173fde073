//! A store that fails when it is told to.

use super::Department;
use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, UploadPart,
};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A folder whose n-th operation fails, or every one from the n-th on.
#[derive(Debug)]
pub(crate) struct FailingStore {
    inner: LocalFileSystem,
    used: Arc<AtomicUsize>,
    fails_at: usize,
    is_dead_after: bool,
}

impl FailingStore {
    pub(crate) fn new(department: &Department, fails_at: usize, is_dead_after: bool) -> Arc<Self> {
        Arc::new(Self {
            inner: LocalFileSystem::new_with_prefix(department.data()).unwrap(),
            used: Arc::default(),
            fails_at,
            is_dead_after,
        })
    }

    pub(crate) fn used(&self) -> usize {
        self.used.load(Ordering::SeqCst)
    }

    fn step(&self) -> object_store::Result<()> {
        step(&self.used, self.fails_at, self.is_dead_after)
    }
}

fn step(used: &AtomicUsize, fails_at: usize, is_dead_after: bool) -> object_store::Result<()> {
    let n = used.fetch_add(1, Ordering::SeqCst);
    if n == fails_at || (is_dead_after && n > fails_at) {
        return Err(object_store::Error::Generic {
            store: "failing",
            source: std::io::Error::from(std::io::ErrorKind::StorageFull).into(),
        });
    }
    Ok(())
}

impl std::fmt::Display for FailingStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("failing")
    }
}

#[async_trait]
impl ObjectStore for FailingStore {
    async fn put_opts(
        &self,
        at: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> object_store::Result<PutResult> {
        self.step()?;
        self.inner.put_opts(at, payload, options).await
    }

    async fn put_multipart_opts(
        &self,
        at: &Path,
        options: PutMultipartOptions,
    ) -> object_store::Result<Box<dyn MultipartUpload>> {
        self.step()?;
        Ok(Box::new(FailingUpload {
            inner: self.inner.put_multipart_opts(at, options).await?,
            used: Arc::clone(&self.used),
            fails_at: self.fails_at,
            is_dead_after: self.is_dead_after,
        }))
    }

    async fn get_opts(&self, at: &Path, options: GetOptions) -> object_store::Result<GetResult> {
        self.step()?;
        self.inner.get_opts(at, options).await
    }

    async fn get_ranges(
        &self,
        at: &Path,
        ranges: &[Range<u64>],
    ) -> object_store::Result<Vec<Bytes>> {
        self.step()?;
        self.inner.get_ranges(at, ranges).await
    }

    fn delete_stream(
        &self,
        at: BoxStream<'static, object_store::Result<Path>>,
    ) -> BoxStream<'static, object_store::Result<Path>> {
        match self.step() {
            Ok(()) => self.inner.delete_stream(at),
            Err(e) => Box::pin(futures::stream::once(async { Err(e) })),
        }
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, object_store::Result<ObjectMeta>> {
        match self.step() {
            Ok(()) => self.inner.list(prefix),
            Err(e) => Box::pin(futures::stream::once(async { Err(e) })),
        }
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> object_store::Result<ListResult> {
        self.step()?;
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(
        &self,
        from: &Path,
        to: &Path,
        options: CopyOptions,
    ) -> object_store::Result<()> {
        self.step()?;
        self.inner.copy_opts(from, to, options).await
    }
}

#[derive(Debug)]
struct FailingUpload {
    inner: Box<dyn MultipartUpload>,
    used: Arc<AtomicUsize>,
    fails_at: usize,
    is_dead_after: bool,
}

#[async_trait]
impl MultipartUpload for FailingUpload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        match step(&self.used, self.fails_at, self.is_dead_after) {
            Ok(()) => self.inner.put_part(data),
            Err(e) => Box::pin(async { Err(e) }),
        }
    }

    async fn complete(&mut self) -> object_store::Result<PutResult> {
        step(&self.used, self.fails_at, self.is_dead_after)?;
        self.inner.complete().await
    }

    async fn abort(&mut self) -> object_store::Result<()> {
        step(&self.used, self.fails_at, self.is_dead_after)?;
        self.inner.abort().await
    }
}
