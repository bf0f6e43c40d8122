//! The protocol of [`AddressSpace`](super::space::AddressSpace) under shuttle: its own code over pages that check
//! what is done to them, with a reader's touch as a look at what lies at the address and a fault where nothing does.
//! Shuttle takes every atomic for sequentially consistent, so orderings are not checked here.

use super::pages::MovePages;
use super::space::{AddressSpace, Event, Incurable};
use crate::MemoryError;
use crate::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use shuttle::sync::mpsc::{Receiver, Sender, channel};
use shuttle::sync::{Arc, Mutex};
use shuttle::thread;
use std::collections::{HashMap, VecDeque};

const CHUNK: usize = 16;
const BASE: usize = 1024;
const NOTHING: u32 = u32::MAX;

/// Contents are numbers; a slot or address without pages holds [`NOTHING`].
struct Pages {
    slots: Vec<AtomicU32>,
    addresses: Vec<AtomicU32>,
    moving: Vec<AtomicBool>,
    writable: Vec<AtomicBool>,
    /// How many more moves are refused.
    refusals: AtomicU32,
}

impl Pages {
    fn new(chunks: usize, slots: usize) -> Self {
        let words = |count| (0..count).map(|_| AtomicU32::new(NOTHING)).collect();
        Self {
            slots: (0..slots).map(|_| AtomicU32::new(0)).collect(),
            addresses: words(chunks),
            moving: (0..chunks).map(|_| AtomicBool::new(false)).collect(),
            writable: (0..chunks).map(|_| AtomicBool::new(false)).collect(),
            refusals: AtomicU32::new(0),
        }
    }

    fn fill(&self, slot: u32, value: u32) {
        let before = self.slots[slot as usize].swap(value, Ordering::SeqCst);
        assert_ne!(
            before, NOTHING,
            "a slot is filled while a chunk has its pages"
        );
    }

    fn take(&self, from: &AtomicU32, to: &AtomicU32) {
        let value = from.swap(NOTHING, Ordering::SeqCst);
        assert_ne!(value, NOTHING, "moved from where no pages are");
        thread::yield_now();
        assert_eq!(
            to.swap(value, Ordering::SeqCst),
            NOTHING,
            "moved over pages"
        );
    }

    fn exclusively(&self, chunk: u32, act: impl FnOnce()) -> Result<(), MemoryError> {
        let moving = &self.moving[chunk as usize];
        assert!(
            !moving.swap(true, Ordering::SeqCst),
            "two moves of one chunk at once"
        );
        let refused = self
            .refusals
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| {
                left.checked_sub(1)
            })
            .is_ok();
        if !refused {
            act();
        }
        moving.store(false, Ordering::SeqCst);
        if refused {
            return Err(super::mapping::last_error("moving a chunk's pages", CHUNK));
        }
        Ok(())
    }
}

impl MovePages for Pages {
    fn base(&self) -> usize {
        BASE
    }

    fn publish(&self, chunk: u32, slot: u32) -> Result<(), MemoryError> {
        self.exclusively(chunk, || {
            self.take(&self.slots[slot as usize], &self.addresses[chunk as usize]);
        })
    }

    fn withdraw(&self, chunk: u32, slot: u32) -> Result<(), MemoryError> {
        self.exclusively(chunk, || {
            self.take(&self.addresses[chunk as usize], &self.slots[slot as usize]);
            self.writable[chunk as usize].store(false, Ordering::SeqCst);
        })
    }

    fn permit_writes(&self, chunk: u32) -> Result<(), MemoryError> {
        self.exclusively(chunk, || {
            let pages = self.addresses[chunk as usize].load(Ordering::SeqCst);
            assert_ne!(pages, NOTHING, "writes where no pages are");
            self.writable[chunk as usize].store(true, Ordering::SeqCst);
        })
    }

    fn prepare_substitutes(&self) {}

    fn substitute(&self, chunk: u32) -> Result<(), MemoryError> {
        self.exclusively(chunk, || {
            let before = self.addresses[chunk as usize].swap(SUBSTITUTE, Ordering::SeqCst);
            assert_eq!(before, NOTHING, "substituted over pages");
        })
    }

    fn withdraw_run(&self, run: &[(u32, u32)]) -> Result<(), MemoryError> {
        run.iter()
            .try_for_each(|&(chunk, slot)| self.withdraw(chunk, slot))
    }

    fn spend_spare(&self) {}
}

type Space = Arc<AddressSpace<Pages>>;

fn space(chunks: u32, slots: u32) -> Space {
    let pages = Pages::new(chunks as usize, slots as usize);
    Arc::new(AddressSpace::over(pages, chunks, slots, CHUNK))
}

fn content(chunk: u32) -> u32 {
    chunk + 100
}

/// A load instruction at the chunk's address, with the fault handler behind it.
fn load(space: &Space, chunk: u32) -> Result<u32, Incurable> {
    loop {
        match space.pages().addresses[chunk as usize].load(Ordering::SeqCst) {
            NOTHING => {
                space.serve_fault(BASE + chunk as usize * CHUNK + 3, false)?;
            }
            seen => return Ok(seen),
        }
    }
}

fn touch(space: &Space, chunk: u32) -> Result<(), Incurable> {
    let seen = load(space, chunk)?;
    assert_eq!(seen, content(chunk), "read another chunk's bytes");
    Ok(())
}

/// Serves until told to stop, oldest out first. Where `hasty`, the first chunk is taken away as soon as it is there.
fn page(space: &Space, slots: u32, mut hasty: bool, stop: &AtomicBool) {
    let mut free: Vec<u32> = (0..slots).collect();
    let mut resident = VecDeque::new();
    loop {
        let rings = space.rings();
        if stop.load(Ordering::SeqCst) {
            return;
        }
        while let Some(event) = space.take_event() {
            let Event::Missing { offset, .. } = event else {
                continue;
            };
            let chunk = (offset / CHUNK as u64) as u32;
            if resident.contains(&chunk) {
                continue;
            }
            let slot = free.pop().unwrap_or_else(|| {
                let oldest = resident.pop_front().unwrap();
                space.withdraw(oldest).unwrap().unwrap()
            });
            space.pages().fill(slot, content(chunk));
            space.mark_ready(chunk, slot);
            if std::mem::take(&mut hasty) {
                assert_eq!(space.withdraw(chunk).unwrap(), Some(slot));
                free.push(slot);
            } else {
                resident.push_back(chunk);
            }
        }
        space.wait(rings, None);
    }
}

/// Random schedules only: under an unfair one a pager may take a chunk away before its reader has read, for ever.
/// That is the engine's to prevent.
fn check(scenario: impl Fn() + Send + Sync + 'static) {
    shuttle::check_random(scenario, 1000);
}

/// Readers of more chunks than there are slots, someone who publishes ahead, and a pager that takes chunks away
/// again: every byte is right, and nobody sleeps for ever (shuttle ends with "deadlock" where one does).
fn readers_and_pager(chunks: u32, slots: u32, hasty: bool) {
    let space = space(chunks, slots);
    let stop = Arc::new(AtomicBool::new(false));
    let readers: Vec<_> = (0..2)
        .map(|reader| {
            let space = space.clone();
            thread::spawn(move || {
                for step in 0..3 {
                    touch(&space, (reader + step) % chunks).unwrap();
                }
            })
        })
        .collect();
    let ahead = {
        let space = space.clone();
        thread::spawn(move || {
            for chunk in 0..chunks {
                space.publish(chunk).unwrap();
            }
        })
    };
    let pager = {
        let (space, stop) = (space.clone(), stop.clone());
        thread::spawn(move || page(&space, slots, hasty, &stop))
    };
    for reader in readers {
        reader.join().unwrap();
    }
    ahead.join().unwrap();
    stop.store(true, Ordering::SeqCst);
    space.ring();
    pager.join().unwrap();
}

#[test]
fn readers_read_their_chunk_and_no_other() {
    check(|| readers_and_pager(3, 2, false));
    check(|| readers_and_pager(2, 1, false));
}

/// A sleeper must not take the absence after a load for the one it fell asleep on.
#[test]
fn a_chunk_that_comes_and_goes_is_asked_for_again() {
    check(|| readers_and_pager(1, 1, true));
}

/// In place of a chunk that can't be read.
const SUBSTITUTE: u32 = 99;

/// What the pager of a stream does, with a thread that reads, as it does it: a read is reported, then its chunk is ready,
/// then the pager is woken. A read that fails is tried once more, then there is a substitute.
struct Reads {
    asked: Mutex<Sender<(u32, u32)>>,
    ended: Mutex<VecDeque<(u32, u32, bool)>>,
    /// How many more fail.
    failures: AtomicU32,
    /// Slots that the budget buys.
    limit: AtomicU32,
    stop: AtomicBool,
}

impl Reads {
    fn read(&self, space: &Space, asked: &Receiver<(u32, u32)>) {
        while let Ok((chunk, slot)) = asked.recv() {
            if self.stop.load(Ordering::SeqCst) {
                return;
            }
            let fails = self
                .failures
                .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| {
                    left.checked_sub(1)
                })
                .is_ok();
            if !fails {
                space.pages().fill(slot, content(chunk));
            }
            self.ended.lock().unwrap().push_back((chunk, slot, !fails));
            if !fails {
                space.mark_ready(chunk, slot);
            }
            space.ring();
        }
    }

    fn ask(&self, chunk: u32, slot: u32) {
        self.asked.lock().unwrap().send((chunk, slot)).unwrap();
    }

    fn page(&self, space: &Space, slots: u32) {
        let mut free: Vec<u32> = (0..slots).collect();
        let (mut wanted, mut resident) = (VecDeque::new(), VecDeque::new());
        // How often the read of a chunk has failed.
        let mut loading: HashMap<u32, u32> = HashMap::new();
        loop {
            let rings = space.rings();
            if self.stop.load(Ordering::SeqCst) {
                return;
            }
            let mut events = Vec::new();
            while let Some(event) = space.take_event() {
                events.push(event);
            }
            while let Some((chunk, slot, good)) = { self.ended.lock().unwrap().pop_front() } {
                let failed = loading.get_mut(&chunk).unwrap();
                *failed += u32::from(!good);
                if !good && *failed < 2 {
                    self.ask(chunk, slot);
                    continue;
                }
                if !good {
                    space.pages().fill(slot, SUBSTITUTE);
                    space.mark_ready(chunk, slot);
                }
                loading.remove(&chunk);
                resident.push_back((chunk, slot));
            }
            for event in events {
                if let Event::Missing { offset, .. } = event {
                    let chunk = (offset / CHUNK as u64) as u32;
                    if !(resident.iter().any(|&(other, _)| other == chunk)
                        || loading.contains_key(&chunk)
                        || wanted.contains(&chunk))
                    {
                        wanted.push_back(chunk);
                    }
                }
            }
            let limit = self.limit.load(Ordering::SeqCst) as usize;
            // Room for one that is wanted, or none where the budget has shrunk.
            while resident.len() + loading.len() + usize::from(!wanted.is_empty()) > limit {
                let Some((oldest, slot)) = resident.pop_front() else {
                    break;
                };
                assert_eq!(space.reclaim(oldest).unwrap(), slot);
                // Its memory goes back to the system.
                space.pages().fill(slot, 0);
                free.push(slot);
            }
            if resident.len() + loading.len() < limit
                && let Some(chunk) = wanted.pop_front()
            {
                loading.insert(chunk, 0);
                self.ask(chunk, free.pop().unwrap());
                if !wanted.is_empty() {
                    space.ring();
                }
            }
            space.wait(rings, None);
        }
    }
}

/// Reads that fail, for a time or for good, while the budget shrinks and grows: who reads gets its chunk, or the
/// substitute if reads fail for good; nobody sleeps for ever.
fn failing_and_resized(slots: u32, failures: u32) {
    let chunks = 3;
    let space = space(chunks, slots);
    let (asked, asking) = channel();
    let reads = Arc::new(Reads {
        asked: Mutex::new(asked),
        ended: Mutex::new(VecDeque::new()),
        failures: AtomicU32::new(failures),
        limit: AtomicU32::new(slots),
        stop: AtomicBool::new(false),
    });
    let served = [
        {
            let (space, reads) = (space.clone(), reads.clone());
            thread::spawn(move || reads.read(&space, &asking))
        },
        {
            let (space, reads) = (space.clone(), reads.clone());
            thread::spawn(move || reads.page(&space, slots))
        },
    ];
    let users: Vec<_> = (0..2)
        .map(|user| {
            let space = space.clone();
            thread::spawn(move || {
                for step in 0..3 {
                    let chunk = (user + step) % chunks;
                    let seen = load(&space, chunk).unwrap();
                    let substitute = failures > 1 && seen == SUBSTITUTE;
                    assert!(
                        substitute || seen == content(chunk),
                        "{seen} at chunk {chunk}"
                    );
                }
            })
        })
        .collect();
    for limit in [1, slots] {
        reads.limit.store(limit, Ordering::SeqCst);
        space.ring();
        thread::yield_now();
    }
    for user in users {
        user.join().unwrap();
    }
    reads.stop.store(true, Ordering::SeqCst);
    space.ring();
    reads.ask(0, 0);
    for thread in served {
        thread.join().unwrap();
    }
}

#[test]
fn failed_reads_and_other_budgets_disturb_nobody() {
    for (slots, failures) in [(1, 0), (2, 0), (2, 1), (2, 3)] {
        check(move || failing_and_resized(slots, failures));
    }
}

/// Closing wakes sleepers, those who wait for room in the queue of events (no pager takes any here), and does not
/// lose a chunk that a read completes meanwhile.
#[test]
fn closing_wakes_everyone() {
    check(|| {
        let space = space(4, 2);
        let readers: Vec<_> = (0..4)
            .map(|chunk| {
                let space = space.clone();
                thread::spawn(move || {
                    let seen = load(&space, chunk).unwrap();
                    let real = chunk == 0 && seen == content(0);
                    assert!(real || seen == SUBSTITUTE, "{seen} at chunk {chunk}");
                })
            })
            .collect();
        let source = {
            let space = space.clone();
            thread::spawn(move || {
                space.pages().fill(1, content(0));
                space.mark_ready(0, 1);
            })
        };
        space.close();
        source.join().unwrap();
        for reader in readers {
            reader.join().unwrap();
        }
        if space.withdraw(0).unwrap() == Some(1) {
            space.pages().fill(1, 0);
        }
    });
}

/// A store instruction at the chunk's address, with the fault handler behind it.
fn store(space: &Space, chunk: u32, value: u32) -> Result<(), Incurable> {
    let pages = space.pages();
    while !pages.writable[chunk as usize].load(Ordering::SeqCst) {
        space.serve_fault(BASE + chunk as usize * CHUNK, true)?;
    }
    pages.addresses[chunk as usize].store(value, Ordering::SeqCst);
    Ok(())
}

/// Writers wait until they are permitted to, together with readers, and one whose chunk comes and goes asks again.
#[test]
fn writers_wait_until_they_may() {
    check(|| {
        let space = space(1, 1);
        space.pages().fill(0, content(0));
        space.mark_ready(0, 0);
        let users: Vec<_> = (0..3)
            .map(|user| {
                let space = space.clone();
                thread::spawn(move || match user {
                    0 => assert!([content(0), 7].contains(&load(&space, 0).unwrap())),
                    _ => store(&space, 0, 7).unwrap(),
                })
            })
            .collect();
        let mut permitted = false;
        while !permitted {
            let rings = space.rings();
            while let Some(event) = space.take_event() {
                if let Event::Writing { offset: 0, .. } = event {
                    space.permit_writes(0).unwrap();
                    permitted = true;
                }
            }
            if !permitted {
                space.wait(rings, None);
            }
        }
        for user in users {
            user.join().unwrap();
        }
        assert_eq!(load(&space, 0), Ok(7));
        assert_eq!(space.withdraw(0).unwrap(), Some(0));
        space.pages().fill(0, 0);
    });
}

/// Whoever waits to write when the space is closed waits for nobody any more.
#[test]
fn closing_wakes_writers() {
    check(|| {
        let space = space(1, 1);
        space.pages().fill(0, content(0));
        space.mark_ready(0, 0);
        let writer = {
            let space = space.clone();
            thread::spawn(move || store(&space, 0, 7))
        };
        space.close();
        writer.join().unwrap().unwrap();
    });
}

/// Where the kernel refuses, the chunk is as it was, for whoever comes next.
#[test]
fn a_refused_move_changes_nothing() {
    check(|| {
        let space = space(1, 1);
        space.pages().fill(0, content(0));
        space.mark_ready(0, 0);
        space.pages().refusals.store(1, Ordering::SeqCst);
        let readers: Vec<_> = (0..2)
            .map(|_| {
                let space = space.clone();
                thread::spawn(move || touch(&space, 0))
            })
            .collect();
        let ends: Vec<_> = readers
            .into_iter()
            .map(|reader| reader.join().unwrap())
            .collect();
        let refused = ends
            .iter()
            .filter(|&&end| end == Err(Incurable::Mapping))
            .count();
        assert_eq!(refused, 1, "{ends:?}");
        space.pages().refusals.store(1, Ordering::SeqCst);
        assert!(space.withdraw(0).is_err());
        assert_eq!(touch(&space, 0), Ok(()));
        assert_eq!(space.withdraw(0).unwrap(), Some(0));
    });
}

/// Where a machine doesn't tell writes from reads, writing ends all the same.
#[test]
fn a_fault_that_loading_does_not_cure_ends() {
    check(|| {
        let space = space(1, 1);
        space.pages().fill(0, content(0));
        space.mark_ready(0, 0);
        assert_eq!(touch(&space, 0), Ok(()));
        let end = (0..1000).find_map(|_| space.serve_fault(BASE, false).err());
        assert_eq!(end, Some(Incurable::Written));
    });
}
