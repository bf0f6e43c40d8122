//! io_uring: soon.
use crate::{Backend, OnCompletion, OpenError, Request, Source, file::Files};
use std::sync::Arc;
pub(crate) struct Uring;
impl Uring {
    pub(crate) fn start(_files: Arc<Files>, _on: OnCompletion) -> Result<Self, OpenError> {
        Err(OpenError::Unavailable {
            backend: Backend::Uring,
            reason: "not yet".into(),
        })
    }
}
impl Source for Uring {
    fn submit(&self, _r: Request) {}
    fn depth(&self) -> usize {
        0
    }
    fn name(&self) -> &'static str {
        ""
    }
}
