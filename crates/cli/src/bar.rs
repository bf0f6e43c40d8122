//! A progress bar, on a terminal only.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use weightstream_pack::{Phase, Progress};

/// Shows what is told to it.
pub struct Bar(ProgressBar);

impl Bar {
    /// A bar on standard error; nothing where that is no terminal.
    pub fn new() -> Self {
        let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr_with_hz(10));
        let template = "{msg:9} {wide_bar} {percent:>3} %  {bytes} of {total_bytes}  {bytes_per_sec}  ETA {eta}  {prefix}";
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        Self(bar)
    }

    pub fn show(&self, progress: Progress) {
        let name = match progress.phase {
            Phase::Resuming => "resuming",
            Phase::Packing => "packing",
            Phase::Verifying => "verifying",
            Phase::Unpacking => "unpacking",
        };
        if self.0.message() != name {
            // Its own beginning: another phase has another speed.
            self.0.set_message(name);
            self.0.reset();
        }
        self.0.set_length(progress.total);
        self.0.set_position(progress.done);
        if progress.phase == Phase::Packing && progress.done > 0 {
            let ratio = progress.stored as f64 / progress.done as f64;
            self.0.set_prefix(format!("ratio {ratio:.3}"));
        }
    }

    pub fn finish(&self) {
        self.0.finish_and_clear();
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.finish();
    }
}
