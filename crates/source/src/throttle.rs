//! A source that is slowed down to a certain speed: for benchmarks whose ratios must repeat, and to
//! see a slow disk's behaviour on a fast one.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::Source;
use crate::delivery::Delivery;
use crate::error::OpenError;
use crate::lock;
use crate::request::{OnCompletion, Request};

/// A device's speed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Speed {
    /// Bytes that come in a second, all requests together.
    pub bytes_per_second: f64,
    /// Time that a request takes besides.
    pub latency: Duration,
}

/// Wraps a source: nothing completes faster than a device of the given [`Speed`] would that serves
/// requests in the order of their submission. The data itself may be there earlier.
pub struct Throttle {
    // Dropped in this order: the inner source completes what is in flight, then that is delivered.
    inner: Box<dyn Source>,
    device: Arc<Mutex<Device>>,
    _delivery: Delivery,
}

impl Throttle {
    /// Opens the inner source through `open`, to which it gives the listener to open it with.
    ///
    /// # Errors
    /// Those of `open`, and [`OpenError::Thread`].
    pub fn open(
        speed: Speed,
        on_completion: OnCompletion,
        open: impl FnOnce(OnCompletion) -> Result<Box<dyn Source>, OpenError>,
    ) -> Result<Box<dyn Source>, OpenError> {
        let delivery = Delivery::start(on_completion)?;
        let device = Arc::new(Mutex::new(Device::new(speed, Instant::now())));
        let (mailbox, served) = (delivery.mailbox(), Arc::clone(&device));
        let inner = open(Arc::new(move |mut completion| {
            if let Some((token, due)) = lock(&served).waiting.remove(&completion.token) {
                completion.token = token;
                mailbox.post(due, completion);
            }
        }))?;
        Ok(Box::new(Self {
            inner,
            device,
            _delivery: delivery,
        }))
    }
}

impl Source for Throttle {
    fn submit(&self, mut request: Request) {
        let bytes = request.pieces.iter().map(|piece| piece.length).sum();
        request.token = lock(&self.device).accept(request.token, bytes, Instant::now());
        self.inner.submit(request);
    }

    fn depth(&self) -> usize {
        self.inner.depth()
    }

    fn name(&self) -> &'static str {
        "throttled"
    }
}

/// The device that is imitated.
struct Device {
    speed: Speed,
    idle_from: Instant,
    accepted: u64,
    /// By the token given to the inner source: the caller's token, and when it may complete.
    waiting: HashMap<u64, (u64, Instant)>,
}

impl Device {
    fn new(speed: Speed, now: Instant) -> Self {
        Self {
            speed,
            idle_from: now,
            accepted: 0,
            waiting: HashMap::new(),
        }
    }

    /// Returns the token for the inner source.
    fn accept(&mut self, token: u64, bytes: usize, now: Instant) -> u64 {
        let seconds = bytes as f64 / self.speed.bytes_per_second;
        // A day stands for a speed of nothing.
        let transfer = Duration::try_from_secs_f64(seconds).unwrap_or(Duration::from_secs(86_400));
        self.idle_from = self.idle_from.max(now) + transfer;
        self.accepted += 1;
        self.waiting
            .insert(self.accepted, (token, self.idle_from + self.speed.latency));
        self.accepted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_queue_for_the_device_and_latencies_overlap() {
        let start = Instant::now();
        let millis = Duration::from_millis;
        let speed = Speed {
            bytes_per_second: 1000.0,
            latency: millis(5),
        };
        let mut device = Device::new(speed, start);
        let mut due = |token, bytes, now| {
            let inner = device.accept(token, bytes, start + now);
            device
                .waiting
                .remove(&inner)
                .map(|(token, due)| (token, due - start))
        };
        assert_eq!(due(7, 10, millis(0)), Some((7, millis(15))));
        assert_eq!(due(7, 20, millis(1)), Some((7, millis(35))));
        assert_eq!(due(8, 10, millis(100)), Some((8, millis(115))));
        assert_eq!(due(9, 0, millis(100)), Some((9, millis(115))));
    }
}
