//! Where a command writes.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use weightstream::{Checkpoint, CheckpointError};

/// The command's output: plain text, coloured on a terminal.
pub struct Context {
    out: Box<dyn Write>,
    /// The interpreter that has called, if one has.
    pub python: Option<PathBuf>,
}

impl Context {
    pub fn new(python: Option<PathBuf>) -> Self {
        Self {
            out: Box::new(io::BufWriter::new(anstream::stdout())),
            python,
        }
    }
}

/// The checkpoint at `path`; what is odd about it, and does no harm, goes to standard error.
pub fn open(path: &Path) -> Result<Checkpoint, CheckpointError> {
    let checkpoint = Checkpoint::open(path)?;
    for note in &checkpoint.notes {
        anstream::eprintln!("note: {note}");
    }
    Ok(checkpoint)
}

impl Write for Context {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.out.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// What came of a command that did not fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    Good,
    /// It did its work, and that showed something bad.
    Bad,
}

impl Outcome {
    pub fn code(self) -> u8 {
        match self {
            Outcome::Good => 0,
            Outcome::Bad => 1,
        }
    }
}
