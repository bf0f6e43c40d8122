//! A source whose reads go wrong as told: to test what uses it.

use std::collections::HashMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::delivery::{Delivery, Mailbox};
use crate::error::{OpenError, ReadError, ReadErrorKind};
use crate::request::{Completion, OnCompletion, Piece, Request};
use crate::{Source, lock};

/// What goes wrong.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// The request fails with this; nothing is read.
    Fail(ReadErrorKind),
    /// The first half of the piece is read, then the file seems to end.
    Short,
    /// The request completes this much later.
    Delay(Duration),
    /// The request completes well, with every bit of the overlap with the range inverted.
    Corrupt,
}

/// Which reads go wrong, and how.
#[derive(Debug, Clone, PartialEq)]
pub struct Fault {
    /// The file, or any.
    pub file: Option<u32>,
    /// Pieces that overlap these bytes of the file are hit.
    pub range: Range<u64>,
    /// Hits to let pass first.
    pub skip: u64,
    /// Hits that take effect after those; `u64::MAX` for all.
    pub times: u64,
    /// What happens.
    pub effect: Effect,
}

impl Fault {
    /// Every read of any byte of any file.
    #[must_use]
    pub fn always(effect: Effect) -> Self {
        Self {
            file: None,
            range: 0..u64::MAX,
            skip: 0,
            times: u64::MAX,
            effect,
        }
    }

    /// The `n`-th read from now on, counted from 1.
    #[must_use]
    pub fn nth(n: u64, effect: Effect) -> Self {
        Self {
            skip: n.saturating_sub(1),
            times: 1,
            ..Self::always(effect)
        }
    }

    /// The first read of these bytes only.
    #[must_use]
    pub fn once(file: u32, range: Range<u64>, effect: Effect) -> Self {
        Self {
            file: Some(file),
            range,
            times: 1,
            ..Self::always(effect)
        }
    }
}

/// Names a [`Fault`] in a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FaultId(u64);

/// The faults of a source, which may be changed while it reads. Its clones are one table.
#[derive(Debug, Clone, Default)]
pub struct Faults(Arc<Mutex<Table>>);

#[derive(Debug, Default)]
struct Table {
    faults: Vec<(FaultId, Fault)>,
    added: u64,
    pieces: u64,
    hits: u64,
}

impl Faults {
    /// Adds a fault. Of several that hit a request all take effect; the first failure is reported.
    pub fn add(&self, fault: Fault) -> FaultId {
        let mut table = lock(&self.0);
        table.added += 1;
        let id = FaultId(table.added);
        table.faults.push((id, fault));
        id
    }

    /// Removes a fault, if it is there.
    pub fn remove(&self, id: FaultId) {
        lock(&self.0).faults.retain(|(other, _)| *other != id);
    }

    /// Removes all.
    pub fn clear(&self) {
        lock(&self.0).faults.clear();
    }

    /// Pieces that were asked for so far.
    #[must_use]
    pub fn pieces(&self) -> u64 {
        lock(&self.0).pieces
    }

    /// How often a fault took effect so far.
    #[must_use]
    pub fn hits(&self) -> u64 {
        lock(&self.0).hits
    }

    /// What hits a request.
    fn strike(&self, request: &Request) -> Damage {
        let mut table = lock(&self.0);
        let table = &mut *table;
        let mut damage = Damage::default();
        for piece in &request.pieces {
            table.pieces += 1;
            for (_, fault) in &mut table.faults {
                if let Some(overlap) = fault.hits(piece) {
                    table.hits += 1;
                    damage.add(piece, overlap, &fault.effect);
                }
            }
        }
        damage
    }
}

impl Fault {
    /// The bytes of the piece that it hits, counted from the piece's start, if it takes effect.
    fn hits(&mut self, piece: &Piece) -> Option<Range<usize>> {
        let end = piece.offset.saturating_add(piece.length as u64);
        let overlap = self.range.start.max(piece.offset)..self.range.end.min(end);
        if overlap.is_empty() || self.file.is_some_and(|file| file != piece.file) || self.times == 0
        {
            return None;
        }
        if self.skip > 0 {
            self.skip -= 1;
            return None;
        }
        if self.times != u64::MAX {
            self.times -= 1;
        }
        Some((overlap.start - piece.offset) as usize..(overlap.end - piece.offset) as usize)
    }
}

/// What happens to one request.
#[derive(Default)]
struct Damage {
    failure: Option<(Piece, ReadErrorKind)>,
    delay: Duration,
    short: Option<Piece>,
    corrupt: Vec<(Piece, Range<usize>)>,
}

impl Damage {
    fn add(&mut self, piece: &Piece, overlap: Range<usize>, effect: &Effect) {
        match effect {
            Effect::Fail(kind) => {
                self.failure.get_or_insert_with(|| (*piece, kind.clone()));
            }
            Effect::Short => {
                self.short.get_or_insert(*piece);
            }
            Effect::Delay(delay) => self.delay += *delay,
            Effect::Corrupt => self.corrupt.push((*piece, overlap)),
        }
    }
}

/// Wraps a source: its reads meet the faults of a table.
pub struct Faulty {
    // Dropped in this order: the inner source completes what is in flight, then that is delivered.
    inner: Box<dyn Source>,
    files: Vec<PathBuf>,
    faults: Faults,
    struck: Arc<Mutex<Struck>>,
    mailbox: Mailbox,
    _delivery: Delivery,
}

/// Requests given to the inner source, by the token they have there.
#[derive(Default)]
struct Struck {
    accepted: u64,
    waiting: HashMap<u64, (u64, Damage)>,
}

impl Faulty {
    /// Opens the inner source through `open`, to which it gives the listener to open it with.
    /// `files` are the paths that errors name.
    ///
    /// # Errors
    /// Those of `open`, and [`OpenError::Thread`].
    pub fn open(
        files: &[PathBuf],
        faults: Faults,
        on_completion: OnCompletion,
        open: impl FnOnce(OnCompletion) -> Result<Box<dyn Source>, OpenError>,
    ) -> Result<Box<dyn Source>, OpenError> {
        let delivery = Delivery::start(on_completion)?;
        let struck = Arc::<Mutex<Struck>>::default();
        let (mailbox, waiting) = (delivery.mailbox(), Arc::clone(&struck));
        let names = files.to_vec();
        let inner = open(Arc::new(move |mut completion| {
            let found = lock(&waiting).waiting.remove(&completion.token);
            if let Some((token, damage)) = found {
                completion.token = token;
                if let (Ok(()), Some(piece)) = (&completion.result, damage.short) {
                    let got = piece.length / 2;
                    let kind = ReadErrorKind::UnexpectedEnd { got };
                    completion.result = Err(error(&names, &piece, kind));
                }
                if completion.result.is_ok() {
                    damage.corrupt.iter().for_each(invert);
                }
                mailbox.post(Instant::now() + damage.delay, completion);
            }
        }))?;
        let (files, mailbox) = (files.to_vec(), delivery.mailbox());
        Ok(Box::new(Self {
            inner,
            files,
            faults,
            struck,
            mailbox,
            _delivery: delivery,
        }))
    }
}

impl Source for Faulty {
    fn submit(&self, mut request: Request) {
        let damage = self.faults.strike(&request);
        if let Some((piece, kind)) = damage.failure {
            let completion = Completion {
                token: request.token,
                result: Err(error(&self.files, &piece, kind)),
            };
            self.mailbox.post(Instant::now() + damage.delay, completion);
            return;
        }
        if let Some(short) = damage.short {
            for piece in &mut request.pieces {
                if (piece.file, piece.offset) == (short.file, short.offset) {
                    piece.length /= 2;
                }
            }
        }
        let mut struck = lock(&self.struck);
        struck.accepted += 1;
        let inner_token = struck.accepted;
        struck.waiting.insert(inner_token, (request.token, damage));
        drop(struck);
        request.token = inner_token;
        self.inner.submit(request);
    }

    fn depth(&self) -> usize {
        self.inner.depth()
    }

    fn name(&self) -> &'static str {
        "faulty"
    }
}

fn error(files: &[PathBuf], piece: &Piece, kind: ReadErrorKind) -> ReadError {
    let path = files.get(piece.file as usize);
    ReadError {
        path: path.map_or(Path::new("?"), PathBuf::as_path).into(),
        offset: piece.offset,
        length: piece.length,
        kind,
    }
}

fn invert((piece, range): &(Piece, Range<usize>)) {
    // SAFETY: the inner source has read the bytes, and the caller does not know of that yet.
    unsafe { piece.destination.invert(range.clone()) };
}
