//! Where panics end: borders to other languages, and calls of code that is not ours, run what they do in [`caught`].

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::panic::{self, AssertUnwindSafe};
use std::sync::Once;

/// A panic that was caught: what it said, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{said}, at {place}")]
pub struct Panicked {
    /// Its words.
    pub said: String,
    /// File, line and column of the source.
    pub place: String,
}

thread_local! {
    static INSIDE: Cell<usize> = const { Cell::new(0) };
    static PLACE: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Does `work`; a panic of this thread in it is an error, and nothing is written to standard error.
///
/// # Errors
/// `work` has panicked. What it was changing is in any state.
pub fn caught<T>(work: impl FnOnce() -> T) -> Result<T, Panicked> {
    listen();
    INSIDE.set(INSIDE.get() + 1);
    let ended = panic::catch_unwind(AssertUnwindSafe(work));
    INSIDE.set(INSIDE.get() - 1);
    ended.map_err(|panic| Panicked {
        said: words(&*panic).to_owned(),
        place: PLACE.take(),
    })
}

/// Has panics inside of [`caught`] keep their place instead of printing it; others go on to whoever listened before.
fn listen() {
    static LISTENING: Once = Once::new();
    LISTENING.call_once(|| {
        let others = panic::take_hook();
        panic::set_hook(Box::new(move |panic| {
            if INSIDE.try_with(Cell::get).unwrap_or(0) == 0 {
                return others(panic);
            }
            let place = panic.location().map(ToString::to_string);
            PLACE.set(place.unwrap_or_else(|| "an unknown place".into()));
        }));
    });
}

fn words(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("a panic without words")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[allow(clippy::panic)]
    fn a_panic_is_an_error_with_its_words_and_its_place() {
        assert_eq!(caught(|| 7), Ok(7));
        let panicked = caught(|| panic!("number {}", 7)).unwrap_err();
        assert_eq!(panicked.said, "number 7");
        assert!(panicked.place.starts_with(file!()), "{panicked}");
        // One inside of another ends at the inner one.
        let inner = caught(|| caught(|| panic!("words"))).unwrap();
        assert_eq!(inner.unwrap_err().said, "words");
    }
}
